"""HTML that needs nothing but itself: styles and pictures are inside."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from PIL import Image

from pinet_jax.data import RgbImage

JPEG_QUALITY = 82

# The policy lets nothing be loaded from anywhere, whatever a text in the page may hold.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ background: #fff; color: #1c1c1c; font: 16px/1.5 system-ui, sans-serif;
 max-width: 1080px; margin: 2em auto; padding: 0 1em; }}
h1 {{ font-size: 1.6em; margin-bottom: .4em; }}
h2 {{ font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #ccc; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin: .8em 0; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: right; }}
th {{ background: #f3f5f7; }}
th:first-child, td:first-child {{ text-align: left; }}
figure {{ margin: 1em 0; }}
figcaption, p.note {{ color: #444; font-size: .92em; max-width: 52em; }}
img {{ max-width: 100%; height: auto; }}
.pair {{ display: grid; grid-template-columns: 1fr 1fr; gap: .6em; margin-bottom: .6em; }}
.pair figure {{ margin: 0; }}
.pair img {{ width: 100%; }}
pre {{ background: #f3f5f7; padding: 1em; overflow-x: auto; font-size: .85em; }}
summary {{ cursor: pointer; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def page(title: str, blocks: Iterable[str]) -> str:
    """A whole page of blocks, which are HTML."""
    return _PAGE.format(title=escape(title), body="\n".join(blocks))


def heading(text: str) -> str:
    """The title of a section."""
    return f"<h2>{escape(text)}</h2>"


def note(text: str) -> str:
    """A paragraph that explains."""
    return f'<p class="note">{escape(text)}</p>'


def facts(items: Mapping[str, str]) -> str:
    """Names and what they are."""
    return _table("", items.items())


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells under a header; the first column names the rows."""
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return _table(f"<thead><tr>{cells}</tr></thead>", rows)


def diagram(png: bytes, alt: str, dpi: float) -> str:
    """A PNG of so many pixels an inch, of which a page has 96."""
    with Image.open(io.BytesIO(png)) as image:
        width, height = (round(side * 96 / dpi) for side in image.size)
    return (
        f'<figure><img src="{_data("png", png)}" alt="{escape(alt)}" '
        f'width="{width}" height="{height}"></figure>'
    )


def pair(pictures: Mapping[str, RgbImage], title: str) -> str:
    """Pictures side by side, each above its caption, under a title."""
    figures = "".join(
        f'<figure><img src="{_data("jpeg", _jpeg(picture))}" alt="{escape(title)}: '
        f'{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, picture in pictures.items()
    )
    return f'<h3>{escape(title)}</h3>\n<div class="pair">{figures}</div>'


def details(summary: str, text: str) -> str:
    """Plain text that is shown on demand."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def _table(head: str, rows: Iterable[Sequence[str]]) -> str:
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _jpeg(picture: RgbImage) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()
