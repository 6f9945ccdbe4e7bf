"""What finds the people of live tracks again in the next frame: the protocol of a linker.

A linker is one of config.tracking.method. It has no state of its own: what it remembers of a
video goes in and out, so that one linker serves any number of videos.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int
from ml_collections import ConfigDict

from pinet_jax.data import RgbImage
from pinet_jax.inference.fusion import People
from pinet_jax.methods.variables import Variables
from pinet_jax.tracking.frames import Detections, Tracked
from pinet_jax.tracking.tracks import Live


@dataclasses.dataclass(frozen=True)
class Links:
    """Who is who in a frame.

    Attributes:
        detections: people of the frame: those found, in their order, then those recovered.
        detection_of: for each live track the index of its detection, -1 for none; no
            detection twice.
        duplicate: detections that are dropped.
    """

    detections: Detections
    detection_of: Int[np.ndarray, " t"]
    duplicate: Bool[np.ndarray, " n"]


@runtime_checkable
class Model(Protocol):
    """What finds the people, such as a `Predictor`.

    Attributes:
        config: of the model.
        variables: of the model.
    """

    config: ConfigDict
    variables: Variables

    def __call__(self, images: Sequence[RgbImage]) -> list[People]:
        """The people of at most eval.batch_size images of one size."""


@runtime_checkable
class Linker(Protocol):
    """Links detections to live tracks."""

    def start(self) -> Any:
        """What is remembered before the first frame."""

    def link(
        self,
        state: Any,
        image: RgbImage,
        frame: int,
        live: Live,
        found: Detections,
    ) -> tuple[Any, Links]:
        """Links frame number `frame`, counted from 0; called for every frame, in order.

        Args:
            state: what the call before returned, or `start`.
            image: RGB.
            frame: its number.
            live: tracks that may be found, with where and when they were last seen.
            found: people of this frame, already suppressed.
        """


@runtime_checkable
class Merger(Linker, Protocol):
    """A linker that can also join tracks over long gaps, offline (config.tracking.merge)."""

    def merge(self, state: Any, frames: list[Tracked]) -> dict[int, int]:
        """Ids that are others' continuation.

        Args:
            state: after the last frame.
            frames: the tracked people of every frame.

        Returns:
            From the id of a later track to that of the track it continues.
        """
