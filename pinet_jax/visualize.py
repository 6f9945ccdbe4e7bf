"""Pictures: people on an image, predictions beside the truth, loss curves.

A person has one colour, its left limbs a light and its right limbs a dark shade of
it. Small images are enlarged first, so that lines and captions stay legible.
"""

import colorsys
import dataclasses
import functools
import math
import os
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from pinet_jax import metrics_log
from pinet_jax.errors import UserError
from pinet_jax.skeletons import Skeleton

RgbImage = UInt8[np.ndarray, "h w 3"]
Color = tuple[int, int, int]

MIN_LONG_SIDE = 720  # smaller images are enlarged to this
MIN_SCORE = 0.2  # people of a lower score are not worth a picture
MIN_KEYPOINT_SCORE = 0.02  # keypoints of a lower score are left out
OPACITY = 0.85  # of the drawing on the image
LEGEND = "light limbs: the person's left    dark: its right    hollow joints: hidden"
SUBPIXEL_BITS = 4  # OpenCV draws at 1/16 pixel

# Apart from each other, and from skin and grass as far as six hues can be.
_HUES = (0.55, 0.08, 0.83, 0.38, 0.98, 0.70, 0.16, 0.47, 0.90, 0.62)
_OUTLINE = (20, 20, 20)
_PAPER = (250, 250, 250)
_INK = (40, 40, 40)


def draw_people(
    image: RgbImage,
    keypoints: Float[np.ndarray, "n k 2"],
    keypoint_scores: Float[np.ndarray, "n k"] | None,
    scores: Float[np.ndarray, " n"] | None,
    skeleton: Skeleton,
    min_keypoint_score: float = MIN_KEYPOINT_SCORE,
    min_long_side: int = MIN_LONG_SIDE,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image with predicted people on it, the best on top.

    Args:
        image: RGB.
        keypoints: (x, y) in image pixels.
        keypoint_scores: those below `min_keypoint_score` are left out; None draws all.
        scores: written at each person; None writes nothing.
        skeleton: of the keypoints.
        min_long_side: images smaller than this are enlarged to it, pixels.

    Returns:
        RGB.
    """
    keypoints = np.asarray(keypoints, np.float64)
    shown = np.ones(keypoints.shape[:2], bool)
    if keypoint_scores is not None:
        shown = np.asarray(keypoint_scores) >= min_keypoint_score
    order = range(len(keypoints))
    labels = [""] * len(keypoints)
    if scores is not None:
        order = np.argsort(np.asarray(scores), kind="stable").tolist()
        labels = [f"{score:.2f}" for score in scores]
    canvas, keypoints = _enlarged(image, keypoints, min_long_side)
    return _draw(canvas, keypoints, shown, shown, labels, order, skeleton)


def draw_truth(
    image: RgbImage,
    keypoints: Float[np.ndarray, "n k 3"],
    skeleton: Skeleton,
    min_long_side: int = MIN_LONG_SIDE,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The image with annotated people on it: seen keypoints full, hidden ones hollow.

    Args:
        image: RGB.
        keypoints: (x, y, v), v 0 not labelled, 1 hidden, 2 seen.
        skeleton: of the keypoints.
        min_long_side: as for `draw_people`.
    """
    keypoints = np.asarray(keypoints, np.float64)
    visibility = keypoints[..., 2]
    labels = [""] * len(keypoints)
    order = range(len(keypoints))
    canvas, points = _enlarged(image, keypoints[..., :2], min_long_side)
    return _draw(canvas, points, visibility > 0, visibility > 1, labels, order, skeleton)


@dataclasses.dataclass(frozen=True)
class Example:
    """An image with its predicted and its annotated people.

    Attributes:
        image: RGB.
        keypoints, keypoint_scores, scores: the prediction, as for `draw_people`.
        truth: as for `draw_truth`.
        caption: what is written above the pair.
    """

    image: RgbImage
    keypoints: Float[np.ndarray, "n k 2"]
    keypoint_scores: Float[np.ndarray, "n k"]
    scores: Float[np.ndarray, " n"]
    truth: Float[np.ndarray, "m k 3"]
    caption: str = ""


def prediction_grid(
    examples: Sequence[Example],
    skeleton: Skeleton,
    path: str | os.PathLike,
    pairs_per_row: int = 2,
    panel_height: int = 480,
) -> None:
    """Writes a PNG of prediction beside truth, `pairs_per_row` examples a row.

    Args:
        examples: at least one.
        skeleton: of all the keypoints.
        path: of the PNG.
        pairs_per_row: examples side by side.
        panel_height: of each image on the page, pixels.

    Raises:
        UserError: the file cannot be written.
    """
    tiles = [_pair(example, skeleton, panel_height) for example in examples]
    rows = [
        _side_by_side(tiles[i : i + pairs_per_row], gap=28)
        for i in range(0, len(tiles), pairs_per_row)
    ]
    width = max(row.shape[1] for row in rows)
    rows = [_pad(row, right=width - row.shape[1], bottom=20) for row in rows]
    page = _underlined(np.concatenate(rows), LEGEND)
    save_png(_pad(page, left=20, right=20, top=16, bottom=12), path)


def loss_curves(metrics_path: str | os.PathLike, png_path: str | os.PathLike) -> None:
    """Draws every loss term and the learning rate of a metrics.jsonl over the steps.

    Raises:
        UserError: the metrics cannot be read or hold no loss, or the PNG cannot be
            written.
    """
    records = metrics_log.read_metrics(metrics_path)
    names = list(dict.fromkeys(name for record in records for name in record))
    names = [name for name in names if name == "loss" or name.endswith("_loss")]
    if not names:
        raise UserError(f"'{metrics_path}' holds no losses yet: train for some steps first.")
    if any("learning_rate" in record for record in records):
        names.append("learning_rate")
    save_png(_plot(records, names), png_path)


def save_png(image: RgbImage, path: str | os.PathLike) -> None:
    """Writes a PNG; UserError if it cannot be written."""
    try:
        Image.fromarray(image).save(path, format="PNG")
    except OSError as error:
        raise UserError(
            f"Cannot write '{path}' ({error.strerror or error}): name another folder."
        ) from None


def person_color(index: int) -> Color:
    """The colour of person `index` of an image; after the hues run out, paler ones."""
    again, hue = divmod(index, len(_HUES))
    saturation = 0.9 / (1 + 0.5 * (again % 3))
    return _to_rgb(colorsys.hsv_to_rgb(_HUES[hue], saturation, 1.0))


# People on an image. Colours are indexed by person, so that they do not depend on the
# drawing order.


def _draw(canvas, points, shown, full, labels, order, skeleton) -> np.ndarray:
    """Draws persons in `order`; `shown` and `full` [n, k] are masks of the keypoints."""
    shown = shown & np.isfinite(points).all(-1)
    drawing = canvas.copy()
    for person in order:
        pen = _pen(points[person][shown[person]], canvas.shape)
        _draw_person(drawing, points[person], shown[person], full[person], skeleton, person, pen)
    drawing = cv2.addWeighted(drawing, OPACITY, canvas, 1 - OPACITY, 0)
    for person in order:
        if labels[person] and shown[person].any():
            top = min(points[person][shown[person]], key=lambda point: point[1])
            drawing = _label(drawing, labels[person], top, person_color(person))
    return drawing


def _draw_person(drawing, points, shown, full, skeleton, person, pen) -> None:
    """Limbs, then joints on top of them; everything with a dark outline."""
    color = person_color(person)
    limbs = [(a, b) for a, b in skeleton.limbs if shown[a] and shown[b]]
    for a, b in limbs:
        _line(drawing, points[a], points[b], _OUTLINE, pen + 2 * _outline(pen))
    for a, b in limbs:
        _line(drawing, points[a], points[b], _shade(color, _limb_side(skeleton, a, b)), pen)
    for k in np.flatnonzero(shown):
        shade = _shade(color, _side(skeleton.keypoints[k]))
        _joint(drawing, points[k], shade, pen, hollow=not full[k])


def _limb_side(skeleton: Skeleton, a: int, b: int) -> str:
    """Of a limb on both sides, or on one and the middle: "left", "right" or ""."""
    sides = {_side(skeleton.keypoints[a]), _side(skeleton.keypoints[b])} - {""}
    return sides.pop() if len(sides) == 1 else ""


def _side(keypoint: str) -> str:
    side = keypoint.partition("_")[0]
    return side if side in ("left", "right") else ""


def _shade(color: Color, side: str) -> Color:
    target, weight = {"left": (255, 0.55), "right": (0, 0.4), "": (0, 0.0)}[side]
    return tuple(round(c + (target - c) * weight) for c in color)


def _pen(points: np.ndarray, shape: tuple[int, ...]) -> float:
    """Line width for a person: thin on small people, never a blob on large ones."""
    if not len(points):
        return 1.0
    extent = float(np.ptp(points, axis=0).max())
    return float(np.clip(extent / 60, 1.5, max(shape) / 180))


def _outline(pen: float) -> float:
    return max(1.0, pen / 4)


def _line(drawing, a, b, color, width) -> None:
    cv2.line(drawing, _fixed(a), _fixed(b), color, max(1, round(width)), cv2.LINE_AA, SUBPIXEL_BITS)


def _joint(drawing, point, color, pen, hollow) -> None:
    radius, rim = 1.1 * pen + 1, _outline(pen)
    _disc(drawing, point, radius + rim, _OUTLINE)
    if hollow:
        _disc(drawing, point, radius, (255, 255, 255))
        ring = max(1.0, 0.3 * radius)
        _disc(drawing, point, radius - ring / 2, color)
        _disc(drawing, point, radius - ring, (255, 255, 255))
    else:
        _disc(drawing, point, radius, color)


def _disc(drawing, point, radius, color) -> None:
    radius = round(radius * 2**SUBPIXEL_BITS)
    cv2.circle(drawing, _fixed(point), radius, color, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _fixed(point) -> tuple[int, int]:
    """OpenCV's fixed-point coordinates; far outside the image is all the same."""
    x, y = np.clip(point, -1e5, 1e5)
    return round(x * 2**SUBPIXEL_BITS), round(y * 2**SUBPIXEL_BITS)


def _label(drawing: np.ndarray, text: str, point, color: Color) -> np.ndarray:
    """Text on a plate of the person's colour, above `point` and inside the image."""
    height, width = drawing.shape[:2]
    font = _font(max(14, round(max(height, width) / 60)))
    box = font.getbbox(text)
    pad = 3
    plate_width, plate_height = box[2] + 2 * pad, box[3] + 2 * pad
    x = int(np.clip(point[0] - plate_width / 2, 0, max(width - plate_width, 0)))
    y = int(np.clip(point[1] - 1.9 * plate_height, 0, max(height - plate_height, 0)))
    page = Image.fromarray(drawing)
    pen = ImageDraw.Draw(page)
    plate = (x, y, x + plate_width, y + plate_height)
    pen.rounded_rectangle(plate, radius=plate_height // 4, fill=_shade(color, "right"))
    pen.text((x + pad, y + pad), text, fill=(255, 255, 255), font=font)
    return np.array(page)


def _enlarged(image: np.ndarray, points: np.ndarray, min_long_side: int):
    factor = max(1.0, min_long_side / max(image.shape[:2]))
    # Pixel centres are at whole coordinates.
    return _resized(image, factor), (points + 0.5) * factor - 0.5


# The page of the grid.


def _pair(example: Example, skeleton: Skeleton, height: int) -> np.ndarray:
    factor = height / example.image.shape[0]
    image = _resized(example.image, factor)
    truth = np.array(example.truth, np.float64)
    truth[..., :2] = (truth[..., :2] + 0.5) * factor - 0.5
    poses = (np.asarray(example.keypoints) + 0.5) * factor - 0.5
    prediction = poses, example.keypoint_scores, example.scores
    panels = [
        _titled(
            draw_people(image, *prediction, skeleton, min_long_side=0),
            f"prediction: {_count(len(poses))}",
            18,
        ),
        _titled(
            draw_truth(image, truth, skeleton, min_long_side=0),
            f"truth: {_count(len(truth))}",
            18,
        ),
    ]
    pair = _side_by_side(panels, gap=6)
    return _titled(pair, example.caption, 20) if example.caption else pair


def _count(people: int) -> str:
    return "1 person" if people == 1 else f"{people} people"


def _titled(image: np.ndarray, title: str, size: int) -> np.ndarray:
    return np.concatenate([_text_strip(image.shape[1], title, size), image])


def _underlined(image: np.ndarray, text: str) -> np.ndarray:
    return np.concatenate([image, _text_strip(image.shape[1], text, 16)])


def _text_strip(width: int, text: str, size: int) -> np.ndarray:
    """A line of text, cut off where the width ends."""
    strip = Image.new("RGB", (width, round(1.6 * size)), _PAPER)
    ImageDraw.Draw(strip).text((1, size // 4), text, fill=_INK, font=_font(size))
    return np.array(strip)


def _side_by_side(images: Sequence[np.ndarray], gap: int) -> np.ndarray:
    height = max(image.shape[0] for image in images)
    padded = [
        _pad(image, bottom=height - image.shape[0], right=gap if i < len(images) - 1 else 0)
        for i, image in enumerate(images)
    ]
    return np.concatenate(padded, axis=1)


def _pad(image: np.ndarray, top=0, bottom=0, left=0, right=0) -> np.ndarray:
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=_PAPER)


def _resized(image: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1:
        return image.copy()
    height, width = image.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    method = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return cv2.resize(image, size, interpolation=method)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _to_rgb(color: Sequence[float]) -> Color:
    return tuple(round(255 * c) for c in color)


# Curves.


def _plot(records: Sequence[dict], names: Sequence[str]) -> np.ndarray:
    """One panel a metric, on a logarithmic scale where it is positive."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes half a second
    from matplotlib.figure import Figure

    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.6 * columns, 3.1 * rows), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for index, name in enumerate(names):
        points = [(r["step"], r[name]) for r in records if r.get(name) is not None]
        _plot_panel(figure.add_subplot(rows, columns, index + 1), name, np.array(points))
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _plot_panel(axes, name: str, points: np.ndarray) -> None:
    axes.set_title(name.replace("_", " "), fontsize=10, loc="left")
    axes.grid(True, which="major", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)
    axes.set_xlabel("step", fontsize=8)
    if not len(points):
        return
    steps, values = points.T
    if name == "learning_rate":
        axes.plot(steps, values, color="#1f5f99", linewidth=1.6)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        axes.yaxis.offsetText.set_fontsize(8)
        return
    axes.plot(steps, values, color="#9ec5e8", linewidth=0.9, marker="." if len(steps) < 3 else "")
    axes.plot(steps, _smoothed(values, len(values) // 20), color="#1f5f99", linewidth=1.6)
    if (values > 0).all():
        axes.set_yscale("log")


def _smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over `window` values to either side; fewer, to both sides, near the ends."""
    index = np.arange(len(values))
    reach = np.minimum(np.minimum(index, index[::-1]), window)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)
