"""The linker of correspondences: sections 1 and 3 of TRACKING.md, one frame after another."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float16, UInt8
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.tracking.correspondences import association, merging, recovery, view
from pinet_jax.tracking.correspondences.recovery import Estimate
from pinet_jax.tracking.correspondences.warping import Description, Warped, Warper, remember
from pinet_jax.tracking.frames import Detections, Tracked, join, nobody
from pinet_jax.tracking.linkers import Links
from pinet_jax.tracking.tracks import Live


@dataclasses.dataclass(frozen=True)
class Memory:
    """What is remembered of a video.

    Attributes:
        frames: the last max_age + 1 frames; frame f in the place f mod (max_age + 1). None
            before the first.
        recovered: the people recovered in the last frame, image pixels: from these nobody
            is recovered.
        size: height and width of a frame.
        features: F of every frame; kept for merging alone.
    """

    frames: Description | None
    recovered: Float[np.ndarray, "r k 2"]
    size: tuple[int, int]
    features: tuple[Float16[np.ndarray, "h w c"], ...]


class CorrespondenceLinker:
    """Finds people again by what they look like.

    Args:
        config: tracking, the skeleton and eval.input_size are read.
        views: what the network sees of frames.
        warper: the compiled network.
        estimate: finds people in crops, to recover them; None recovers nobody.
    """

    def __init__(
        self, config: ConfigDict, views: view.View, warper: Warper, estimate: Estimate | None
    ):
        self._config, self._view, self._warper = config.tracking, views, warper
        self._estimate = estimate if config.tracking.recovery else None
        self._crop_size = config.eval.input_size
        self._sigmas = skeletons.of(config).sigmas

    def start(self) -> Memory:
        """Nothing is remembered."""
        return Memory(None, nobody(len(self._sigmas)).keypoints, (0, 0), ())

    def link(
        self,
        state: Memory,
        image: UInt8[np.ndarray, "h w 3"],
        frame: int,
        live: Live,
        found: Detections,
    ) -> tuple[Memory, Links]:
        """See `linkers.Linker`."""
        size = image.shape[:2]
        seen = self._warper.describe(self._view.see(image))
        frames = state.frames or self._warper.nothing(seen)
        links, recovered = _none_live(found), found.take(np.zeros(0, int))
        if len(live):
            warped = self._warp(frames, seen, live, size)
            recovered = self._recover(state, image, frame, live, found, warped)
            links = self._links(warped, join(found, recovered), len(live), size)
        features = state.features
        if self._config.merge:
            features = (*features, np.asarray(seen.features[0], np.float16))
        slot = frame % self._warper.frames
        after = Memory(remember(frames, seen, slot), recovered.keypoints, size, features)
        return after, links

    def merge(self, state: Memory, frames: list[Tracked]) -> dict[int, int]:
        """See `linkers.Linker`; config.tracking.merge must have been on."""

        def warp(people: Detections, times: np.ndarray, target: int) -> tuple:
            return self._warp_far(state, people, times, target)

        return merging.continuations(frames, state.size, warp, self._sigmas, self._config)

    def _warp(
        self, frames: Description, seen: Description, live: Live, size: tuple[int, int]
    ) -> Warped:
        """Where live tracks are in this frame."""
        return self._warper.warp(
            frames,
            seen,
            live.last_seen % self._warper.frames,
            view.apply(self._to_view(size), live.keypoints),
            live.keypoint_scores >= self._config.valid_score,
        )

    def _recover(
        self,
        state: Memory,
        image: UInt8[np.ndarray, "h w 3"],
        frame: int,
        live: Live,
        found: Detections,
        warped: Warped,
    ) -> Detections:
        """People of the last frame that are found only in crops of this one."""
        if self._estimate is None:
            return found.take(np.zeros(0, int))
        same = (live.keypoints[:, None] == state.recovered).all((2, 3)).any(1)
        rows = np.flatnonzero((live.last_seen == frame - 1) & ~same)
        size = image.shape[:2]
        joints = view.apply(view.inverse(self._to_view(size)), np.asarray(warped.joints)[rows])
        return recovery.recover(
            image,
            joints,
            np.asarray(warped.scores)[rows],
            found,
            self._estimate,
            self._sigmas,
            self._config.box_margin / self._to_view(size)[0, 0],
            self._crop_size,
            self._config,
        )

    def _links(
        self, warped: Warped, people: Detections, count: int, size: tuple[int, int]
    ) -> Links:
        """Association, and the detections that are one too many."""
        joints = view.apply(self._to_view(size), people.keypoints)
        scores = association.score(
            np.asarray(warped.joints)[:count],
            np.asarray(warped.scores)[:count],
            Detections(joints, people.keypoint_scores),
            self._warper.read(warped, joints, count),
            self._sigmas,
            self._config,
        )
        detection_of = association.assign(scores, self._config)
        duplicate = np.zeros(len(people), bool)
        if self._config.remove_duplicates:
            duplicate = association.duplicates(scores, detection_of, self._config)
        return Links(people, detection_of, duplicate)

    def _warp_far(
        self, state: Memory, people: Detections, times: np.ndarray, target: int
    ) -> tuple[Float[np.ndarray, "n k 2"], Float[np.ndarray, "n k"]]:
        """People of any frames in another, image pixels, a memory's worth at a time."""
        to_view, step = self._to_view(state.size), self._warper.frames
        joints, scores = [], []
        for start in range(0, len(people), step):
            part = np.arange(start, min(start + step, len(people)))
            some = people.take(part)
            warped = self._warper.warp(
                self._warper.recall([state.features[time] for time in times[part]]),
                self._warper.recall([state.features[target]]),
                np.arange(len(some)),
                view.apply(to_view, some.keypoints),
                some.valid(self._config.valid_score),
            )
            joints.append(np.asarray(warped.joints)[: len(some)])
            scores.append(np.asarray(warped.scores)[: len(some)])
        return view.apply(view.inverse(to_view), np.concatenate(joints)), np.concatenate(scores)

    def _to_view(self, size: tuple[int, int]) -> Float[np.ndarray, "2 3"]:
        return self._view.matrix(*size)


def _none_live(found: Detections) -> Links:
    """Where there is nobody to link to."""
    return Links(found, np.zeros(0, int), np.zeros(len(found), bool))
