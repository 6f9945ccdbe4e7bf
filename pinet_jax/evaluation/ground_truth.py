"""Ground truth for scoring: COCO keypoint annotations, checked, without TensorFlow."""

import dataclasses
import math
import os
import pathlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from pinet_jax.errors import UserError
from pinet_jax.evaluation import coco_annotations
from pinet_jax.evaluation.box_iou import nearest_iou
from pinet_jax.evaluation.coco_annotations import Checked, area, area_of_box, counts, sentence
from pinet_jax.skeletons import Skeleton

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """The images of an annotation file and everybody in them.

    Attributes:
        image_ids: of all its images, those without a person included.
        persons: COCO annotations, each with an area; their ids count from 1, since the
            COCO tools take a match with id 0 for none.
        has_sizes: whether the areas are the file's own and can tell medium persons
            from large ones.
        crowd_index: of each image by its id, 0 or more (above 1, too); None where the
            file has none.
    """

    image_ids: tuple[int, ...]
    persons: tuple[Json, ...]
    has_sizes: bool
    crowd_index: Mapping[int, float] | None

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


def read_truth(path: str | os.PathLike, skeleton: Skeleton) -> GroundTruth:
    """The ground truth of a COCO keypoint file, by the rules of `coco_annotations`.

    Images with a `crowdIndex` mean CrowdPose's protocol, where a person's area is 0.53 of
    its box; so it is wherever a person has no area.

    Raises:
        UserError: the file cannot be read, is no keypoint annotation file, is of another
            skeleton, or something in it is wrong: the image or annotation is named.
    """
    path = pathlib.Path(path).expanduser()
    content, _ = coco_annotations.load(path, scored=True)
    images = _valid(path, "image", coco_annotations.images(content["images"]))
    checked = coco_annotations.persons(content["annotations"], skeleton.num_keypoints, images)
    persons = _valid(path, "annotation", checked)
    crowd_index = _crowd_index(path, images)
    has_sizes = crowd_index is None and all("area" in p for p in persons if counts(p))
    area_of = area if crowd_index is None else area_of_box
    return GroundTruth(
        tuple(image["id"] for image in images),
        tuple({**p, "id": number, "area": area_of(p)} for number, p in enumerate(persons, start=1)),
        has_sizes,
        crowd_index,
    )


def _valid(path: pathlib.Path, what: str, checked: Checked) -> list[Json]:
    """All the entries; UserError names the first that is wrong."""
    entries = []
    for entry, fault in checked:
        if fault is not None:
            raise UserError(sentence(path, what, entry, fault))
        entries.append(entry)
    return entries


def _crowd_index(path: pathlib.Path, images: list[Json]) -> dict[int, float] | None:
    """Image id -> crowdIndex, where the images have one.

    It is not bounded by 1: in a person's box others may have more joints than its owner.
    """
    if not coco_annotations.has_crowd_index(images):
        return None
    for image in images:
        value = image.get("crowdIndex")
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UserError(
                f"{path}: image {image['id']} has no crowdIndex of 0 or more and others have: "
                "give it to all images or to none."
            )
    return {image["id"]: float(image["crowdIndex"]) for image in images}
