"""Tracking by keypoint correspondences, learned from still images (Rafi et al., ECCV 2020)."""

from ml_collections import ConfigDict

from pinet_jax.inference.predictor import Predictor
from pinet_jax.tracking.correspondences.linker import CorrespondenceLinker
from pinet_jax.tracking.correspondences.warping import Warper
from pinet_jax.tracking.frames import Detections


def build(config: ConfigDict, predictor: Predictor | None) -> CorrespondenceLinker:
    """The linker of a config.

    Args:
        config: tracking and the skeleton are read.
        predictor: finds people again in crops; None recovers nobody.

    Raises:
        UserError: the weights cannot be read, or do not fit the config.
    """

    def estimate(crops: list) -> list[Detections]:
        return [Detections(p.keypoints, p.keypoint_scores) for p in predictor(crops)]

    return CorrespondenceLinker(config, Warper(config), estimate if predictor else None)
