"""The baseline of optical flow: a person's last pose is carried on by the image's motion.

TRACKING, section 4, "flow": OpenCV's DIS, chained over the frames in which a track is unseen.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from pinet_jax.data import RgbImage
from pinet_jax.tracking.frames import Detections
from pinet_jax.tracking.linkers import Links
from pinet_jax.tracking.oks import greedy, similarity
from pinet_jax.tracking.tracks import Live

Grey = UInt8[np.ndarray, "h w"]


class Before(NamedTuple):
    """The frame before: its picture, None before the first, and where each track was thought."""

    grey: Grey | None
    keypoints: Mapping[int, Float[np.ndarray, "k 2"]]


class FlowLinker:
    """Links by the OKS of a detection to the track's pose, moved by the flow.

    Args:
        config: config.tracking.
        sigmas: the skeleton's K constants.
    """

    def __init__(self, config: ConfigDict, sigmas: Sequence[float]):
        self._config, self._sigmas = config, sigmas
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def start(self) -> Before:
        """Before the first frame."""
        return Before(None, {})

    def link(
        self,
        state: Before,
        image: RgbImage,
        frame: int,
        live: Live,
        found: Detections,
    ) -> tuple[Before, Links]:
        """See `linkers.Linker`."""
        size = image.shape[:2]
        factor = min(1.0, self._config.view_size / max(size))
        grey = _small_grey(image, factor)
        keypoints = live.keypoints
        if len(live):
            seen = live.last_seen == frame - 1
            keypoints = np.stack(
                [
                    live.keypoints[row] if seen[row] else state.keypoints[track]
                    for row, track in enumerate(live.ids.tolist())
                ]
            )
            flow = self._dis.calc(state.grey, grey, None)
            keypoints = keypoints + read_flow(flow, keypoints * factor) / factor
        alike = similarity(keypoints, live, found, size, self._config, self._sigmas)
        moved = dict(zip(live.ids.tolist(), keypoints, strict=True))
        return Before(grey, moved), greedy(alike, found, self._config.link_oks)


def _small_grey(image: RgbImage, factor: float) -> Grey:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if factor == 1:
        return grey
    return cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def read_flow(
    flow: Float[np.ndarray, "h w 2"], points: Float[np.ndarray, "n k 2"]
) -> Float[np.ndarray, "n k 2"]:
    """Bilinear reads at (x, y); the border's value outside."""
    x, y = np.moveaxis(points.astype(np.float32), -1, 0)
    return cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
