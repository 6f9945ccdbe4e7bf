"""The baseline of similar poses: people are who was most alike in the last frame.

TRACKING, section 4, "oks".
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from pinet_jax.data import RgbImage
from pinet_jax.tracking import frames
from pinet_jax.tracking.frames import Detections
from pinet_jax.tracking.linkers import Links
from pinet_jax.tracking.tracks import Live


class OksLinker:
    """Links by the OKS of a detection to where the track was last seen; remembers nothing.

    Args:
        config: config.tracking.
        sigmas: the skeleton's K constants.
    """

    def __init__(self, config: ConfigDict, sigmas: Sequence[float]):
        self._config, self._sigmas = config, sigmas

    def start(self) -> None:
        """Nothing is remembered."""

    def link(
        self,
        state: None,
        image: RgbImage,
        frame: int,
        live: Live,
        found: Detections,
    ) -> tuple[None, Links]:
        """See `linkers.Linker`."""
        size = image.shape[:2]
        alike = similarity(live.keypoints, live, found, size, self._config, self._sigmas)
        return state, greedy(alike, found, self._config.link_oks)


def similarity(
    keypoints: Float[np.ndarray, "t k 2"],
    live: Live,
    found: Detections,
    size: tuple[int, int],
    config: ConfigDict,
    sigmas: Sequence[float],
) -> Float[np.ndarray, "t n"]:
    """OKS of every detection to every track.

    Args:
        keypoints: where the tracks' joints are thought to be.
        live: the tracks.
        found: the detections, whose boxes are the scale.
        size: height and width of the image.
        config: config.tracking.
        sigmas: the skeleton's K constants.
    """
    valid = found.valid(config.valid_score)
    margin = config.box_margin * max(size) / config.view_size
    area = frames.areas(frames.boxes(found.keypoints, valid, margin, size))
    known = live.keypoint_scores >= config.valid_score
    alike = frames.pose_oks(keypoints, known, found.keypoints, valid, area, sigmas)
    return np.where(valid.sum(1) >= config.min_joints, alike, 0.0)


def greedy(alike: Float[np.ndarray, "t n"], found: Detections, least: float) -> Links:
    """The most alike pair first, then the most alike of the others, while above `least`."""
    detection_of = np.full(len(alike), -1)
    taken = np.zeros(len(found), bool)
    for pair in np.argsort(-alike, axis=None, kind="stable"):
        track, detection = np.unravel_index(pair, alike.shape)
        if alike[track, detection] <= least:
            break
        if detection_of[track] < 0 and not taken[detection]:
            detection_of[track], taken[detection] = detection, True
    return Links(found, detection_of, np.zeros(len(found), bool))
