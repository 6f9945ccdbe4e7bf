"""People drawn on an image."""

import colorsys
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw

from pinet_jax.data import RgbImage
from pinet_jax.skeletons import Skeleton
from pinet_jax.visualize.canvas import Color, font, resized, scaled_points

MIN_LONG_SIDE = 720  # smaller images are enlarged to this
MIN_SCORE = 0.2  # people of a lower score are not worth a picture
MIN_KEYPOINT_SCORE = 0.02  # keypoints of a lower score are left out
OPACITY = 0.85  # of the drawing on the image
SUBPIXEL_BITS = 4  # OpenCV draws at 1/16 pixel

# Apart from each other, and from skin and grass as far as six hues can be.
_HUES = (0.55, 0.08, 0.83, 0.38, 0.98, 0.70, 0.16, 0.47, 0.90, 0.62)
_OUTLINE = (20, 20, 20)


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
    order = np.arange(len(keypoints))
    labels = [""] * len(keypoints)
    if scores is not None:
        order = np.argsort(np.asarray(scores), kind="stable")
        labels = [f"{score:.2f}" for score in scores]
    canvas, points = enlarged(image, keypoints, min_long_side)
    poses = Poses(points, shown, shown, order, labels)
    return draw_poses(canvas, poses, skeleton)


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
    canvas, points = enlarged(image, keypoints[..., :2], min_long_side)
    order, labels = np.arange(len(keypoints)), [""] * len(keypoints)
    poses = Poses(points, visibility > 0, visibility > 1, order, labels)
    return draw_poses(canvas, poses, skeleton)


def person_color(index: int) -> Color:
    """The colour of person `index` of an image; after the hues run out, paler ones."""
    again, hue = divmod(index, len(_HUES))
    saturation = 0.9 / (1 + 0.5 * (again % 3))
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(_HUES[hue], saturation, 1.0))


@dataclasses.dataclass(frozen=True)
class Poses:
    """What is drawn of each of n poses, in pixels of the canvas.

    Attributes:
        points: (x, y) of the keypoints.
        shown: keypoints that are drawn.
        full: keypoints drawn full; the others are hollow.
        order: the poses from the lowest to the topmost.
        labels: written at the pose, "" for nothing.
        person: whose colour a pose has, its own index unless given.
        centers: (x, y) marked by a cross, if given.
    """

    points: Float[np.ndarray, "n k 2"]
    shown: Bool[np.ndarray, "n k"]
    full: Bool[np.ndarray, "n k"]
    order: Int[np.ndarray, " n"]
    labels: Sequence[str]
    person: Int[np.ndarray, " n"] | None = None
    centers: Float[np.ndarray, "n 2"] | None = None

    def color(self, index: int) -> Color:
        """Of pose `index`."""
        return person_color(index if self.person is None else int(self.person[index]))


def draw_poses(canvas: RgbImage, poses: Poses, skeleton: Skeleton) -> RgbImage:
    """The canvas with poses on it."""
    shown = poses.shown & np.isfinite(poses.points).all(-1)
    drawing = canvas.copy()
    order = poses.order.tolist()
    for i in order:
        brush = _brush(poses.points[i][shown[i]], canvas.shape)
        _pose(drawing, poses.points[i], shown[i], poses.full[i], skeleton, poses.color(i), brush)
        if poses.centers is not None:
            _cross(drawing, poses.centers[i], poses.color(i), brush)
    drawing = cv2.addWeighted(drawing, OPACITY, canvas, 1 - OPACITY, 0)
    labels = [
        (poses.labels[i], min(poses.points[i][shown[i]], key=lambda p: p[1]), poses.color(i))
        for i in order
        if poses.labels[i] and shown[i].any()
    ]
    return _labelled(drawing, labels) if labels else drawing


def enlarged(
    image: RgbImage, points: Float[np.ndarray, "*n 2"], min_long_side: int
) -> tuple[RgbImage, Float[np.ndarray, "*n 2"]]:
    """A small image and points on it, enlarged to a long side of `min_long_side`."""
    factor = max(1.0, min_long_side / max(image.shape[:2]))
    return resized(image, factor), scaled_points(points, factor)


def _pose(drawing, points, shown, full, skeleton, color, brush) -> None:
    """Limbs, then joints on top of them; everything with a dark outline."""
    limbs = [(a, b) for a, b in skeleton.limbs if shown[a] and shown[b]]
    for a, b in limbs:
        _line(drawing, points[a], points[b], _OUTLINE, brush.limb + 2 * brush.rim)
    for a, b in limbs:
        _line(drawing, points[a], points[b], _shade(color, _limb_side(skeleton, a, b)), brush.limb)
    for k in np.flatnonzero(shown):
        shade = _shade(color, _side(skeleton.keypoints[k]))
        _joint(drawing, points[k], shade, brush, hollow=not full[k])


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


def _reference(shape: tuple[int, ...]) -> int:
    """The image's size as it will be looked at: the long side, a panorama's cut off."""
    return min(max(shape[:2]), 2 * min(shape[:2]))


class _Brush(NamedTuple):
    """Widths in pixels: of limbs, of the dark rim around everything, radius of joints."""

    limb: float
    rim: float
    joint: float


def _brush(points: np.ndarray, shape: tuple[int, ...]) -> _Brush:
    """For a person: thin on small people, never a blob on large ones."""
    reference = _reference(shape)
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    unit = max(1.0, reference / MIN_LONG_SIDE)  # large images are looked at reduced
    unit = max(1.0, min(unit, extent / 30))
    limb = min(max(extent / 60, 1.5 * unit), reference / 180)
    return _Brush(limb, max(unit, limb / 4), 1.1 * limb + unit)


def _line(drawing, a, b, color, width) -> None:
    cv2.line(drawing, _fixed(a), _fixed(b), color, max(1, round(width)), cv2.LINE_AA, SUBPIXEL_BITS)


def _joint(drawing, point, color, brush, hollow) -> None:
    radius = brush.joint
    _disc(drawing, point, radius + brush.rim, _OUTLINE)
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


def _cross(drawing, center, color, brush) -> None:
    arm = 3 * brush.limb
    ends = [np.array([arm, arm]), np.array([arm, -arm])]
    width = 1.5 * brush.limb
    for end in ends:
        _line(drawing, center - end, center + end, _OUTLINE, width + 3 * brush.rim)
    for end in ends:
        _line(drawing, center - end, center + end, color, width)


def _labelled(drawing: np.ndarray, labels: Sequence[tuple]) -> np.ndarray:
    """Texts on plates of the person's colour, above (x, y) and inside the image."""
    height, width = drawing.shape[:2]
    letters = font(max(14, round(_reference(drawing.shape) / 60)))
    page = Image.fromarray(drawing)
    pen = ImageDraw.Draw(page)
    for text, point, color in labels:
        box = letters.getbbox(text)
        pad = max(3, letters.size // 6)
        plate_width, plate_height = box[2] + 2 * pad, box[3] + 2 * pad
        x = int(np.clip(point[0] - plate_width / 2, 0, max(width - plate_width, 0)))
        y = int(np.clip(point[1] - 1.9 * plate_height, 0, max(height - plate_height, 0)))
        plate = (x, y, x + plate_width, y + plate_height)
        pen.rounded_rectangle(plate, radius=plate_height // 4, fill=_shade(color, "right"))
        pen.text((x + pad, y + pad), text, fill=(255, 255, 255), font=letters)
    return np.array(page)
