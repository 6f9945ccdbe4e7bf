"""Tracking in a run of prediction: one linker for its videos, a file of tracks for each."""

import pathlib
from collections.abc import Iterable, Iterator

from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.inference.fusion import People
from pinet_jax.media.finder import Finder
from pinet_jax.media.track_files import FORMATS, TrackFile
from pinet_jax.tracking import methods, posetrack_joints
from pinet_jax.tracking.frames import Tracked
from pinet_jax.tracking.tracker import follow


class Tracking:
    """Keeps people's identities through the videos of a run.

    Args:
        config: its tracking and skeleton are read.
        find: finds people again in crops.
        form: joints of the files of tracks, of `track_files.FORMATS`.

    Raises:
        UserError: a method or format that cannot work with the config.
    """

    def __init__(self, config: ConfigDict, find: Finder, form: str):
        if form not in FORMATS:
            raise UserError(f"--track_format: '{form}' is not one of {', '.join(FORMATS)}.")
        self._skeleton, self._form = skeletons.of(config), form
        if form == "posetrack":
            posetrack_joints.check(self._skeleton)
        self._config, self._linker = config, methods.build(config, find)

    def follow(
        self, found: Iterable[tuple[RgbImage, People]]
    ) -> Iterator[tuple[RgbImage, Tracked]]:
        """The frames of a video with their people's identities; see `tracker.follow`."""
        return follow(found, self._linker, self._config)

    def file(self, path: pathlib.Path) -> TrackFile:
        """The file that a video's tracks are written to."""
        return TrackFile(path, self._skeleton, self._form)
