"""The same images through PPG, with PR and with PF, as the paper's Fig. 4 shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from pinet_jax import skeletons, visualize
from pinet_jax.config import with_fields
from pinet_jax.inference.fusion import People
from pinet_jax.inference.predictor import Predictor
from pinet_jax.visualize import canvas

STAGES: Mapping[str, Mapping[str, Any]] = {  # of one network; PR is left out, not untrained
    "PPG": {"model.refinement": False, "eval.pose_fusion": False},
    "PPG + PR": {"eval.pose_fusion": False},
    "PPG + PR + PF": {},
}
_TITLE_SIZE = 22  # pixels
_GAP = 12


def picture(
    config: ConfigDict,
    variables: Mapping[str, Any],
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> UInt8[np.ndarray, "h w 3"]:
    """A row an image, a column a stage; RGB.

    Args:
        config: of a network with refinement, with pose fusion.
        variables: its weights.
        images: RGB.
    """
    skeleton = skeletons.of(config)
    columns = []
    for title, fields in STAGES.items():
        people = Predictor(with_fields(config, fields), variables)(images)
        drawn = [
            visualize.draw_people(image, found.keypoints, found.keypoint_scores, None, skeleton)
            for image, found in zip(images, map(_shown, people), strict=True)
        ]
        columns.append([canvas.titled(drawn[0], title, _TITLE_SIZE), *drawn[1:]])
    tiles = [tile for row in zip(*columns, strict=True) for tile in row]
    return canvas.grid(tiles, len(STAGES), _GAP)


def _shown(people: People) -> People:
    """The people who are sure enough to be drawn."""
    sure = people.scores >= visualize.MIN_SCORE
    return jax.tree.map(lambda array: array[sure], people)
