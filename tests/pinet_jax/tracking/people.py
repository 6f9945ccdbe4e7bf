"""Simple people for tests of tracking: stick figures that move as they are told."""

import numpy as np
from ml_collections import ConfigDict

from pinet_jax.config import load_config
from pinet_jax.inference.fusion import People
from pinet_jax.skeletons import COCO
from pinet_jax.tracking.frames import Detections

HEIGHT = 60.0
# A standing person, (x, y) in heights, the middle of the hips at (0, 0).
_X = (0, 0.03, -0.03, 0.06, -0.06, 0.12, -0.12, 0.15, -0.15, 0.17, -0.17, 0.08, -0.08)
_Y = (-0.42, -0.44, -0.44, -0.43, -0.43, -0.3, -0.3, -0.13, -0.13, 0.02, 0.02, 0, 0)
STANDING = np.array(
    [*zip(_X, _Y, strict=True), (0.08, 0.25), (-0.08, 0.25), (0.08, 0.48), (-0.08, 0.48)]
)


def config(**changes) -> ConfigDict:
    """The base config with fields of `tracking` changed."""
    fields = {"method": "oks", "max_age": 2} | changes
    return load_config("base", {f"tracking.{name}": value for name, value in fields.items()})


def at(*places, scores=0.9) -> Detections:
    """People whose hips are at (x, y), all joints of one score, or of one score each."""
    keypoints = HEIGHT * STANDING + np.reshape(places, (-1, 1, 2))
    scores = np.broadcast_to(np.reshape(scores, (-1, 1)), keypoints.shape[:2])
    return Detections(keypoints, scores.astype(float))


def as_people(found: Detections) -> People:
    """As a predictor returns them."""
    return People(found.keypoints, found.keypoint_scores, found.scores, np.ones(len(found), bool))


NOBODY = at().take(np.zeros(0, int))
NUM_KEYPOINTS = COCO.num_keypoints
