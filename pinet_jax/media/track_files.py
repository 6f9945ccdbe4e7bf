"""The tracks of a video on disk: a PoseTrack JSON file, written as the frames come."""

import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from pinet_jax.runtime import files
from pinet_jax.skeletons import POSETRACK, Skeleton
from pinet_jax.tracking import posetrack, posetrack_joints
from pinet_jax.tracking.frames import Tracked

FORMATS = ("model", "posetrack")  # joints: the model's skeleton, or PoseTrack's 17


class TrackFile:
    """Writes a video's tracks in constant memory; the file is there when closed, or not at all.

        with TrackFile(path, skeleton, "model") as tracks:
            tracks.add({"file_name": "000000.jpg", "width": 640, "height": 480}, people)

    Args:
        path: of the JSON file.
        skeleton: of the people.
        form: of FORMATS.
    """

    def __init__(self, path: pathlib.Path, skeleton: Skeleton, form: str):
        self.path, self.skeleton = path, skeleton
        self._converts = form == "posetrack"
        self._images = tempfile.TemporaryFile("w+", dir=path.parent)  # noqa: SIM115
        self._annotations = tempfile.TemporaryFile("w+", dir=path.parent)  # noqa: SIM115
        self._frames = self._people = 0

    def __enter__(self) -> "TrackFile":
        return self

    def __exit__(self, kind, *_exception) -> None:
        with self._images, self._annotations:
            if kind is None and self._frames:
                with files.replacing(self.path) as temporary, open(temporary, "w") as file:
                    file.writelines(self._json())

    def add(self, frame: dict[str, Any], people: Tracked) -> None:
        """Adds a frame ("file_name", "width", "height") and its people."""
        if self._converts:
            people = posetrack_joints.convert(people, self.skeleton)
        with files.disk_errors_as_user_errors(self.path):
            self._images.write(json.dumps(posetrack.image_of(self._frames, frame)) + "\n")
            for annotation in posetrack.annotations_of(self._frames, people, self._people):
                self._annotations.write(json.dumps(annotation) + "\n")
        self._frames += 1
        self._people += len(people)

    def _json(self) -> Iterator[str]:
        skeleton = POSETRACK if self._converts else self.skeleton
        yield '{"images": [\n'
        yield from _lines(self._images)
        yield '],\n"annotations": [\n'
        yield from _lines(self._annotations)
        yield f'],\n"categories": [{json.dumps(posetrack.category(skeleton))}]}}\n'


def _lines(file: IO[str]) -> Iterator[str]:
    """The lines of a file as the items of a JSON list."""
    file.seek(0)
    for number, line in enumerate(file):
        yield f"{', ' if number else ''}{line}"
