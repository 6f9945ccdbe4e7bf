"""Tracking by keypoint correspondences, learned from still images (Rafi et al., ECCV 2020)."""

from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from pinet_jax.data import RgbImage
from pinet_jax.inference.fusion import People
from pinet_jax.tracking.correspondences.linker import CorrespondenceLinker
from pinet_jax.tracking.correspondences.warping import Warper
from pinet_jax.tracking.frames import Detections


def build(
    config: ConfigDict, find: Callable[[Sequence[RgbImage]], list[People]] | None
) -> CorrespondenceLinker:
    """The linker of a config.

    Args:
        config: tracking, the skeleton and eval are read.
        find: finds the people of at most eval.batch_size images of one size, here crops in
            which somebody should be found again; None recovers nobody.

    Raises:
        UserError: the weights cannot be read, or do not fit the config.
    """
    size = config.eval.batch_size

    def estimate(crops: list[RgbImage]) -> list[Detections]:
        batches = (crops[start : start + size] for start in range(0, len(crops), size))
        found = (people for batch in batches for people in find(batch))
        return [Detections(people.keypoints, people.keypoint_scores) for people in found]

    return CorrespondenceLinker(config, Warper(config), estimate if find else None)
