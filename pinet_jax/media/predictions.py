"""Predictions on disk: COCO-format JSON and CSV, written as they come.

    DIR/predictions.json   {"videos", "images", "results", "categories"}
    DIR/predictions.csv    one row a person

Results of any number of images go through in constant memory; the files are there when
closed, whole or not at all, in the order of the images' ids.
"""

import csv
import io
import json
import pathlib
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pinet_jax.evaluation import results as results_files
from pinet_jax.evaluation import scoring
from pinet_jax.inference.fusion import People
from pinet_jax.runtime import files
from pinet_jax.skeletons import Skeleton
from pinet_jax.tracking.frames import Tracked


class PredictionFiles:
    """Writes what was found in images and in the frames of videos.

        with PredictionFiles(folder, skeleton, max_detections=20) as predictions:
            predictions.add({"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}, people)

    Args:
        folder: where the files go.
        skeleton: of the keypoints.
        max_detections: people kept an image, the best.
        with_csv: write the CSV too.
        with_tracks: the CSV has a column for ids.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        skeleton: Skeleton,
        max_detections: int,
        with_csv: bool = False,
        with_tracks: bool = False,
    ):
        self.folder, self.skeleton, self.max_detections = folder, skeleton, max_detections
        self.videos: list[dict[str, Any]] = []
        self._images, self._results = _Pieces(folder), _Pieces(folder)
        self._rows = _Pieces(folder) if with_csv else None
        self._with_tracks = with_tracks

    def __enter__(self) -> "PredictionFiles":
        return self

    def __exit__(self, kind, *_exception) -> None:
        try:
            if kind is None:
                _write(self.folder / "predictions.json", self._json())
                if self._rows is not None:
                    _write(self.folder / "predictions.csv", self._csv())
        finally:
            for pieces in (self._images, self._results, self._rows):
                if pieces is not None:
                    pieces.close()

    def add(self, image: dict[str, Any], people: People | Tracked) -> None:
        """Adds an image's entry under "images" and the people found there.

        Those with ids have a "track_id" each.

        Args:
            image: "id", "file_name", "width", "height"; of a video's frame also "video_id"
                and "frame", counted from 0. Each id once.
            people: in the image's pixels.
        """
        key = image["id"]
        results = results_files.coco_results(key, people, self.max_detections)
        if isinstance(people, Tracked):
            best = np.argsort(-people.scores, kind="stable")
            tracks = people.ids[best[: len(results)]].tolist()
            results = [r | {"track_id": i} for r, i in zip(results, tracks, strict=True)]
        named = (json.dumps(result | {"file_name": image["file_name"]}) for result in results)
        with files.disk_errors_as_user_errors(self.folder):
            self._images.add(key, json.dumps(image))
            if results:
                self._results.add(key, ",\n".join(named))
            if results and self._rows is not None:
                self._rows.add(key, _csv_text(_csv_rows(image, results, self._with_tracks)))

    def _json(self) -> Iterator[str]:
        yield f'{{"videos": {json.dumps(self.videos)},\n"images": [\n'
        yield from _separated(self._images, ",\n")
        yield '\n],\n"results": [\n'
        yield from _separated(self._results, ",\n")
        yield f'\n],\n"categories": [{json.dumps(_category(self.skeleton))}]}}\n'

    def _csv(self) -> Iterator[str]:
        names = [f"{name}_{x}" for name in self.skeleton.keypoints for x in ("x", "y", "score")]
        track = ["track"] if self._with_tracks else []
        yield _csv_text([["file", "frame", "person", *track, "score", *names]])
        yield from self._rows


class _Pieces:
    """Texts by id in a temporary file, read back in the order of the ids."""

    def __init__(self, folder: pathlib.Path):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (`close` does)
        self._spans: dict[int, tuple[int, int]] = {}

    def add(self, key: int, text: str) -> None:
        data = text.encode()
        self._spans[key] = self._file.seek(0, io.SEEK_END), len(data)
        self._file.write(data)

    def __iter__(self) -> Iterator[str]:
        for _, (start, length) in sorted(self._spans.items()):
            self._file.seek(start)
            yield self._file.read(length).decode()

    def close(self) -> None:
        self._file.close()


def _category(skeleton: Skeleton) -> dict[str, Any]:
    return {
        "id": scoring.PERSON,
        "name": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],  # COCO counts from 1
    }


def _csv_rows(
    image: dict[str, Any], results: list[dict[str, Any]], with_tracks: bool
) -> list[list]:
    source = image["file_name"], image.get("frame", "")
    rows = []
    for person, result in enumerate(results, start=1):
        track = [result.get("track_id", "")] if with_tracks else []
        numbers = (round(x, 4) for x in (result["score"], *result["keypoints"]))
        rows.append([*source, person, *track, *numbers])
    return rows


def _csv_text(rows: list[list]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _separated(texts: Iterable[str], separator: str) -> Iterator[str]:
    for index, text in enumerate(texts):
        yield separator + text if index else text


def _write(path: pathlib.Path, texts: Iterator[str]) -> None:
    """Writes a file from pieces, whole or not at all."""
    with (
        files.replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        file.writelines(texts)
