"""Frames in, people with identities out: the front door of tracking."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.data import RgbImage
from pinet_jax.inference.fusion import People
from pinet_jax.inference.predictor import Predictor
from pinet_jax.tracking import endings, methods, tracks
from pinet_jax.tracking.frames import Detections, Tracked
from pinet_jax.tracking.linkers import Linker


class Tracker:
    """Finds people in the frames of a video and keeps their identities.

        tracker = pinet_jax.Tracker(predictor)
        for people in tracker(frames):
            people.ids, people.keypoints

    Frames come out in order, some later than they went in: a track must prove itself first
    (`endings`). Memory does not grow with the video, unless config.tracking.merge wants the
    whole of it.

    Args:
        predictor: finds the people of frames.
        config: its tracking and skeleton are read; the predictor's unless given.

    Raises:
        UserError: the method of tracking cannot work with a choice of the config.
    """

    def __init__(self, predictor: Predictor, config: ConfigDict | None = None):
        self.config = predictor.config if config is None else config
        self._predictor = predictor
        self._linker = methods.build(self.config, predictor)

    def __call__(self, frames: Iterable[RgbImage]) -> Iterator[Tracked]:
        """The people of every frame, with ids from 1 by appearance, none twice in a frame.

        Args:
            frames: of one video, RGB, all of one size.
        """
        for _, people in follow(self._found(frames), self._linker, self.config):
            yield people

    def _found(self, frames: Iterable[RgbImage]) -> Iterator[tuple[RgbImage, People]]:
        frames = iter(frames)
        while batch := list(itertools.islice(frames, self._predictor.config.eval.batch_size)):
            yield from zip(batch, self._predictor(batch), strict=True)


def follow(
    found: Iterable[tuple[RgbImage, People | Detections]], linker: Linker, config: ConfigDict
) -> Iterator[tuple[RgbImage, Tracked]]:
    """Images with their people, with identities.

    Args:
        found: of every frame of one video, in order.
        linker: of config.tracking.method.
        config: its tracking and skeleton are read.
    """
    if not config.tracking.merge:
        return (frame for frame, _ in _followed(found, linker, config))
    return iter(_merged(found, linker, config))


def _followed(
    found: Iterable[tuple[RgbImage, Any]], linker: Linker, config: ConfigDict
) -> Iterator[tuple[endings.Frame, Any]]:
    """Decided frames, each with the linker's state by then."""
    settings = config.tracking
    state, known = linker.start(), tracks.start(skeletons.of(config).num_keypoints)
    waiting = endings.Waiting()
    for number, (image, people) in enumerate(found):
        detections = _strongest(people, settings.max_people)
        state, links = linker.link(state, image, number, known.live, detections)
        known, tracked = tracks.advance(known, links, settings)
        live = set(known.live.ids.tolist())
        waiting, ready = endings.add(waiting, image, tracked, live, settings)
        yield from ((frame, state) for frame in ready)
    yield from ((frame, state) for frame in endings.finish(waiting))


def _merged(
    found: Iterable[tuple[RgbImage, Any]], linker: Linker, config: ConfigDict
) -> Sequence[endings.Frame]:
    """All frames, with tracks joined over gaps (TRACKING, section 3, step 8)."""
    state, frames = linker.start(), []
    for frame, state in _followed(found, linker, config):  # noqa: B007
        frames.append(frame)
    continued = linker.merge(state, [people for _, people in frames])

    def first(track: int) -> int:
        while track in continued:
            track = continued[track]
        return track

    return [
        (
            image,
            Tracked(p.keypoints, p.keypoint_scores, np.array([*map(first, p.ids.tolist())], int)),
        )
        for image, p in frames
    ]


def _strongest(people: People | Detections, most: int) -> Detections:
    """At most so many people, those of the highest scores; their order stays."""
    found = Detections(
        np.asarray(people.keypoints, float), np.asarray(people.keypoint_scores, float)
    )
    if len(found) <= most:
        return found
    return found.take(np.sort(np.argsort(-found.scores, kind="stable")[:most]))
