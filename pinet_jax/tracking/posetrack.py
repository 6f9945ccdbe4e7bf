"""Tracks on disk: JSON files of PoseTrack18 and PoseTrack21, one a video, in and out.

    images       id, file_name, frame_id; of truth also is_labeled, ignore_regions_x and _y
    annotations  image_id, track_id, keypoints (x, y, v), bbox, bbox_head, scores, area
    categories   the keypoints' names

A joint is there if its x and y are above 0 (TRACKING, section 5).
"""

import dataclasses
import json
import os
import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pinet_jax.errors import UserError
from pinet_jax.evaluation.coco_annotations import PERSON, are_finite, is_whole
from pinet_jax.skeletons import Skeleton
from pinet_jax.tracking.frames import Tracked

Json = dict[str, Any]
BOX_AREA = 0.53  # of a person, in areas of its box, where a file gives none


@dataclasses.dataclass(frozen=True)
class Frame:
    """The n annotated people of a frame; arrays of n rows.

    Attributes:
        file_name: of its image.
        labelled: whether its people are annotated; a frame that is not is not scored.
        regions: polygons [m, 2] in which nothing is scored.
        ids: tracks; none twice.
        keypoints: (x, y), pixels.
        there: joints that are annotated.
        scores: of joints.
        head_boxes: x, y, width, height; nan where the file gives none.
        areas: pixels squared.
    """

    file_name: str
    labelled: bool
    regions: tuple[np.ndarray, ...]
    ids: Int[np.ndarray, " n"]
    keypoints: Float[np.ndarray, "n k 2"]
    there: Bool[np.ndarray, "n k"]
    scores: Float[np.ndarray, "n k"]
    head_boxes: Float[np.ndarray, "n 4"]
    areas: Float[np.ndarray, " n"]

    def take(self, rows: np.ndarray) -> "Frame":
        """With some of the people."""
        names = ("ids", "keypoints", "there", "scores", "head_boxes", "areas")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclasses.dataclass(frozen=True)
class Video:
    """What a file holds.

    Attributes:
        name: of the file, without suffix.
        keypoints: names of the K joints.
        frames: in the order of the file.
    """

    name: str
    keypoints: tuple[str, ...]
    frames: tuple[Frame, ...]


def read(path: str | os.PathLike) -> Video:
    """The tracks in a file.

    Raises:
        UserError: it is absent, not JSON, not of this format, or an id stands twice in a frame.
    """
    path = pathlib.Path(path)
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"Cannot read the tracks '{path}' ({error.strerror}).") from None
    except ValueError:
        raise UserError(f"The tracks '{path}' are not a whole JSON file: write it anew.") from None
    return from_json(content, path)


def from_json(content: Json, path: pathlib.Path) -> Video:
    """The tracks in the content of a file; `path` is for its name and for messages."""
    content = _checked(content, path)
    names = tuple(content["categories"][0]["keypoints"])
    people = defaultdict(list)
    for number, person in enumerate(content["annotations"]):
        problem = _problem(person, len(names))
        if problem:
            raise UserError(f"'{path}': annotation {number} {problem}.")
        people[person["image_id"]].append(person)
    unknown = set(people) - {image["id"] for image in content["images"]}
    if unknown:
        raise UserError(
            f"'{path}': annotations are of image {min(unknown)}, which 'images' does not list."
        )
    frames = tuple(_frame(path, image, people[image["id"]], names) for image in content["images"])
    return Video(path.stem, names, frames)


def _checked(content: Json, path: pathlib.Path) -> Json:
    """The content, if it has everything a file needs beside annotations; of people alone."""
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(p), list) for p in parts):
        raise UserError(
            f"'{path}' is not of the PoseTrack format: give lists 'images', 'annotations' and "
            "'categories', one file a video."
        )
    categories = [c for c in content["categories"] if isinstance(c, dict) and c.get("keypoints")]
    if not categories:
        raise UserError(f"'{path}': 'categories' has no keypoints: name them, in their order.")
    for number, image in enumerate(content["images"]):
        if not isinstance(image, dict) or not {"id", "file_name"} <= set(image):
            raise UserError(f"'{path}': image {number} has no 'id' or no 'file_name'.")
    repeated = [
        key for key, count in Counter(i["id"] for i in content["images"]).items() if count > 1
    ]
    if repeated:
        raise UserError(f"'{path}': two images have the id {repeated[0]}: give each its own.")
    return content | {"categories": categories}


def _problem(person: Any, num_keypoints: int) -> str:
    """What is wrong with an annotation; empty if nothing is."""
    if not isinstance(person, dict):
        return "is not an object"
    for field in ("image_id", "track_id"):
        if not is_whole(person.get(field)):
            return f"has no whole number in '{field}'"
    numbers = {"keypoints": 3 * num_keypoints, "scores": num_keypoints, "bbox": 4, "bbox_head": 4}
    for field, count in numbers.items():
        values = person.get(field, [] if field == "keypoints" else None)
        if values and not (isinstance(values, list) and are_finite(values)):
            return f"has a value in '{field}' that is not a finite number"
        if values and len(values) != count:
            return f"has {len(values)} numbers in '{field}' and not {count}"
    return ""


def _frame(path: pathlib.Path, image: Json, people: Sequence[Json], names: Sequence[str]) -> Frame:
    ids = [int(person["track_id"]) for person in people]
    twice = [track for track, count in Counter(ids).items() if count > 1]
    if twice:
        raise UserError(
            f"'{path}': track {twice[0]} stands twice in the frame '{image['file_name']}': give "
            "every person its own id."
        )
    count = len(names)
    triples = np.reshape(
        [person.get("keypoints") or [0.0] * 3 * count for person in people], (-1, count, 3)
    ).astype(float)
    scores = [
        person.get("scores") or triple[:, 2].tolist()
        for person, triple in zip(people, triples, strict=True)
    ]
    return Frame(
        file_name=image["file_name"],
        labelled=bool(image.get("is_labeled", True)),
        regions=tuple(_regions(image)),
        ids=np.array(ids, int),
        keypoints=triples[..., :2],
        there=(triples[..., :2] > 0).all(-1),
        scores=np.reshape(scores, (-1, count)).astype(float),
        head_boxes=_boxes(people, "bbox_head"),
        areas=_areas(people),
    )


def _regions(image: Json) -> Iterator[np.ndarray]:
    """Polygons to ignore; a single one may stand there without the outer list."""
    xs, ys = image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or []
    if xs and not isinstance(xs[0], list):
        xs, ys = [xs], [ys]
    for x, y in zip(xs, ys, strict=True):
        if len(x) == len(y) >= 3:
            yield np.stack([x, y], 1).astype(float)


def _boxes(people: Sequence[Json], field: str) -> Float[np.ndarray, "n 4"]:
    nothing = [np.nan] * 4
    return np.reshape([person.get(field) or nothing for person in people], (-1, 4)).astype(float)


def _areas(people: Sequence[Json]) -> Float[np.ndarray, " n"]:
    sides = _boxes(people, "bbox")[:, 2:]
    given = np.array([person.get("area") or np.nan for person in people], float)
    return np.where(np.isnan(given), BOX_AREA * sides.prod(-1), given)


def write_json(
    frames: Sequence[Mapping[str, Any]], people: Sequence[Tracked], skeleton: Skeleton
) -> Json:
    """The content of a file of tracks.

    Args:
        frames: "file_name", "width", "height" of each frame.
        people: of each frame.
        skeleton: of the keypoints.
    """
    annotations = []
    for number, found in enumerate(people):
        annotations += annotations_of(number, found, len(annotations))
    return {
        "images": [image_of(number, frame) for number, frame in enumerate(frames)],
        "annotations": annotations,
        "categories": [category(skeleton)],
    }


def image_of(number: int, frame: Mapping[str, Any]) -> Json:
    """The entry of frame `number` under "images"."""
    return {"id": number, "frame_id": number, "is_labeled": True, **frame}


def annotations_of(number: int, people: Tracked, first_id: int) -> list[Json]:
    """The entries of a frame's people under "annotations", numbered from `first_id`."""
    return [
        {
            "id": first_id + row,
            "image_id": number,
            "track_id": int(people.ids[row]),
            "category_id": PERSON,
            **_pose(people.keypoints[row], people.keypoint_scores[row]),
        }
        for row in range(len(people))
    ]


def _pose(keypoints: Float[np.ndarray, "k 2"], scores: Float[np.ndarray, " k"]) -> Json:
    """Joints without a score are not there; the box is that around the others."""
    there = scores > 0
    points = np.where(there[:, None], np.round(keypoints.astype(float), 2), 0)
    shown = points[there] if there.any() else np.zeros((1, 2))
    corner, far = shown.min(0), shown.max(0)
    return {
        "keypoints": np.concatenate([points, there[:, None]], 1).ravel().tolist(),
        "scores": np.round(scores.astype(float), 4).tolist(),
        "bbox": np.round([*corner, *(far - corner)], 2).tolist(),
    }


def category(skeleton: Skeleton) -> Json:
    """The entry of people of a skeleton under "categories"."""
    return {
        "id": PERSON,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],  # counted from 1
    }
