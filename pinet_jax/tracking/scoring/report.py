"""The report of tracks: one HTML file that opens anywhere, without a network."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from pinet_jax.evaluation.report import page
from pinet_jax.runtime import files
from pinet_jax.tracking.scoring import tables
from pinet_jax.tracking.scoring.hota import ALPHAS
from pinet_jax.visualize import figures

_OKS = (
    "A pair of a found and a true person counts from OKS 0.5 on. MOTA: 1 less the share of misses, "
    "false positives and switches of identity (CLEAR MOT). IDF1: the share of frames in which a "
    "person keeps its one best identity. HOTA: detection and association in equal parts, over 19 "
    "thresholds. MT, ML: people found in more than 80%, in less than 20% of their frames."
)
_JOINTS = (
    "Every joint by itself, a match within half a head's size; mean over joints. Official: with "
    "the faults of the benchmarks' programs, to be held against published numbers; corrected: "
    "without them. One row where both agree."
)
_CURVES = "HOTA, DetA and AssA at each threshold of similarity; the table has their means."


def write(path: files.Path, scores: Mapping[str, Any], about: Mapping[str, str]) -> None:
    """Writes the report of `run.score`.

    Args:
        path: of the HTML file.
        scores: as `run.score` returns them.
        about: what was scored, names and what they are; the first is the title.

    Raises:
        UserError: the file cannot be written.
    """
    title = f"Tracks of {next(iter(about.values()))}"
    files.write_text(path, page.page(title, [page.facts(about), *_blocks(scores)]))


def _blocks(scores: Mapping[str, Any]) -> Iterator[str]:
    if "posetrack18" in scores:
        head, *rows = tables.joints(scores)
        yield from (page.heading("Joints"), page.table(head, rows), page.note(_JOINTS))
        curves = scores["posetrack21"]["corrected"]["by_alpha"]
        yield from (page.note(_CURVES), _curves(curves))
    head, *rows = tables.people(scores["oks"])
    yield from (page.heading("People by OKS"), page.table(head, rows), page.note(_OKS))
    yield from (page.note(_CURVES), _curves(scores["oks"]["by_alpha"]))


def _curves(by_alpha: Mapping[str, list[float]]) -> str:
    made = figures.figure(6.0, 3.2)
    axes = made.add_subplot()
    for name in ("HOTA", "DetA", "AssA"):
        axes.plot(ALPHAS, by_alpha[name], label=name)
    axes.set(xlabel="similarity", ylim=(0, 1.02), xlim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    png = io.BytesIO()
    Image.fromarray(figures.rendered(made)).save(png, format="PNG")
    return page.diagram(png.getvalue(), "HOTA by threshold", dpi=figures.DPI)
