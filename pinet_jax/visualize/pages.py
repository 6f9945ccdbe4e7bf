"""Predictions beside the truth, on one page."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pinet_jax.data import RgbImage
from pinet_jax.skeletons import Skeleton
from pinet_jax.visualize.canvas import (
    grid,
    pad,
    resized,
    save_png,
    scaled_points,
    side_by_side,
    titled,
    underlined,
)
from pinet_jax.visualize.people import draw_people, draw_truth

LEGEND = "light limbs: the person's left    dark: its right    hollow joints: hidden"


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
    page = underlined(pad(grid(tiles, pairs_per_row, gap=28), bottom=20), LEGEND)
    save_png(pad(page, left=20, right=20, top=16, bottom=12), path)


def _pair(example: Example, skeleton: Skeleton, height: int) -> RgbImage:
    factor = height / example.image.shape[0]
    image = resized(example.image, factor)
    truth = np.array(example.truth, np.float64)
    truth[..., :2] = scaled_points(truth[..., :2], factor)
    poses = scaled_points(np.asarray(example.keypoints), factor)
    found = draw_people(
        image, poses, example.keypoint_scores, example.scores, skeleton, min_long_side=0
    )
    true = draw_truth(image, truth, skeleton, min_long_side=0)
    panels = [
        titled(found, f"prediction: {_count(len(poses))}", 18),
        titled(true, f"truth: {_count(len(truth))}", 18),
    ]
    pair = side_by_side(panels, gap=6)
    return titled(pair, example.caption, 20) if example.caption else pair


def _count(people: int) -> str:
    return "1 person" if people == 1 else f"{people} people"
