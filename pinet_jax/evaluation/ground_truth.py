"""Ground truth for scoring: COCO keypoint annotations, checked, without TensorFlow."""

import dataclasses
import json
import math
import os
import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pinet_jax.errors import UserError
from pinet_jax.evaluation.box_iou import nearest_iou
from pinet_jax.skeletons import Skeleton

PERSON = 1  # category id, in all the datasets
AREA_OF_BOX = 0.53  # body over box, in CrowdPose's protocol

Json = dict[str, Any]

_FIELDS = ("id", "image_id", "category_id", "iscrowd", "num_keypoints", "bbox", "keypoints")


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """The images of an annotation file and everybody in them.

    Attributes:
        image_ids: of all its images, those without a person included.
        persons: COCO annotations, each with an area; their ids count from 1, since the
            COCO tools take a match with id 0 for none.
        has_sizes: whether the areas are the file's own and can tell medium persons
            from large ones.
        crowd_index: of each image by its id, in [0, 1]; None where the file has none.
    """

    image_ids: tuple[int, ...]
    persons: tuple[Json, ...]
    has_sizes: bool
    crowd_index: Mapping[int, float] | None

    def only(self, image_ids: Iterable[int]) -> "GroundTruth":
        """The part on these images."""
        kept = set(self.image_ids) & {int(i) for i in image_ids}
        return dataclasses.replace(
            self,
            image_ids=tuple(i for i in self.image_ids if i in kept),
            persons=tuple(p for p in self.persons if p["image_id"] in kept),
        )

    def box_iou(self) -> dict[int, float]:
        """Person id -> largest IoU of its box with another counted person's; counted ones only."""
        scenes = defaultdict(list)
        for person in filter(counts, self.persons):
            scenes[person["image_id"]].append(person)
        return {
            person["id"]: float(iou)
            for scene in scenes.values()
            for person, iou in zip(
                scene, nearest_iou(np.array([p["bbox"] for p in scene], float)), strict=True
            )
        }


def counts(person: Json) -> bool:
    """Whether a person must be found: the others are neither missed nor wrong if found.

    CrowdPose's `num_keypoints` leaves out head and neck, so it is read, not recounted.
    """
    return person["num_keypoints"] > 0 and not person["iscrowd"]


def read_truth(path: str | os.PathLike, skeleton: Skeleton) -> GroundTruth:
    """The ground truth of a COCO keypoint file, with checks of all that scoring reads.

    Images with a `crowdIndex` mean CrowdPose's protocol, where a person's area is 0.53 of
    its box; so it is wherever a person has no area.

    Raises:
        UserError: the file cannot be read, is no keypoint annotation file, is of another
            skeleton, or something in it is wrong: the image or annotation is named.
    """
    path = pathlib.Path(path).expanduser()
    content = _read_json(path)
    try:
        images, persons = list(content["images"]), list(content["annotations"])
        image_ids = tuple(image["id"] for image in images)
        _check_unique(path, "image", image_ids)
        known = set(image_ids)
        for person in persons:
            _check_person(path, person, skeleton, known)
        _check_unique(path, "annotation", [person["id"] for person in persons])
        crowd_index = _crowd_index(path, images)
    except (KeyError, TypeError):
        raise _not_annotations(path) from None
    has_sizes = crowd_index is None and all("area" in person for person in persons)
    persons = (
        {**person, "id": number, "area": _area(person, crowd_index is None)}
        for number, person in enumerate(persons, start=1)
    )
    return GroundTruth(image_ids, tuple(persons), has_sizes, crowd_index)


def _read_json(path: pathlib.Path) -> Json:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read the annotations '{path}' ({error.strerror}).") from None
    except ValueError:
        raise _not_annotations(path) from None


def _not_annotations(path: pathlib.Path) -> UserError:
    return UserError(f"'{path}' is not a COCO keypoint annotation file.")


def _check_unique(path: pathlib.Path, what: str, ids: Iterable[int]) -> None:
    repeated = [number for number, count in Counter(ids).items() if count > 1]
    if repeated:
        raise UserError(f"'{path}' lists {what} {repeated[0]} twice: give every {what} one id.")


def _check_person(
    path: pathlib.Path, person: Json, skeleton: Skeleton, image_ids: set[int]
) -> None:
    """KeyError or TypeError where it is no keypoint annotation at all."""
    for field in _FIELDS:
        person[field]
    values = len(person["keypoints"])
    if values != 3 * skeleton.num_keypoints:
        raise UserError(
            f"'{path}' has {values / 3:g} keypoints a person and the skeleton "
            f"'{skeleton.name}' {skeleton.num_keypoints} (annotation {person['id']}): "
            "set config.dataset.skeleton."
        )
    numbers = [*person["keypoints"], *person["bbox"], person.get("area", 0)]
    problems = (
        (len(person["bbox"]) != 4, "has a bbox that is not x, y, width, height"),
        (not all(map(math.isfinite, numbers)), "has a number that is not finite"),
        (person["image_id"] not in image_ids, f"is of image {person['image_id']}, not listed"),
        (person["category_id"] != PERSON, f"is of category {person['category_id']}, not a person"),
    )
    for wrong, what in problems:
        if wrong:
            raise UserError(f"'{path}': annotation {person['id']} {what}; mend or remove it.")


def _crowd_index(path: pathlib.Path, images: list[Json]) -> dict[int, float] | None:
    """Image id -> crowdIndex, where the images have one."""
    if not any("crowdIndex" in image for image in images):
        return None
    for image in images:
        value = image.get("crowdIndex")
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UserError(
                f"'{path}': image {image['id']} has no crowdIndex between 0 and 1 and others "
                "have: give it to all images or to none."
            )
    return {image["id"]: float(image["crowdIndex"]) for image in images}


def _area(person: Json, own: bool) -> float:
    if own and "area" in person:
        return person["area"]
    _, _, width, height = person["bbox"]
    return AREA_OF_BOX * width * height
