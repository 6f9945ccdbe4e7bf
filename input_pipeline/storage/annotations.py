"""COCO-format keypoint annotations, checked as they are read."""

import dataclasses
import hashlib
import json
import math
import pathlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from pinet_jax.errors import UserError
from pinet_jax.evaluation.ground_truth import AREA_OF_BOX, PERSON

SKIP = (
    "leave such out with --skip_invalid of input_pipeline.prepare or "
    "--config.dataset.skip_invalid=True"
)
FIELDS = ("id", "image_id", "category_id", "bbox", "keypoints")

Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something invalid.

    Attributes:
        kind: a few words, the same for all of its kind, to count by.
        sentence: what it is in which file, and the mend.
    """

    kind: str
    sentence: str


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The valid part of an annotation file.

    Attributes:
        header: what it holds beside images and annotations.
        images: in the file's order.
        of_image: annotations by image id.
        problems: of what is left out.
    """

    header: Json
    images: list[Json]
    of_image: Mapping[int, list[Json]]
    problems: list[Problem]


def read(path: pathlib.Path, num_keypoints: int, scored: bool, skip_invalid: bool) -> Annotations:
    """The images of an annotation file, and its persons by image.

    Args:
        path: the JSON file.
        num_keypoints: of the skeleton.
        scored: whether it has annotations; otherwise it lists images alone.
        skip_invalid: leave out what is invalid, instead of stopping there.

    Raises:
        UserError: not JSON, not an annotation file, nothing valid in it; or, unless
            skipped, anything invalid.
    """
    content, _ = load(path, scored)
    listed = content.pop("images")
    persons = content.pop("annotations", []) if scored else []
    images, bad_images = _checked(path, "image", listed, _ImageCheck(), skip_invalid)
    check = _PersonCheck(num_keypoints, {image["id"] for image in images})
    persons, bad_persons = _checked(path, "annotation", persons, check, skip_invalid)
    of_image = defaultdict(list)
    for person in persons:
        of_image[person["image_id"]].append(completed(person))
    return Annotations(content, images, of_image, bad_images + bad_persons)


def load(path: pathlib.Path, scored: bool) -> tuple[dict[str, Any], str]:
    """The content of an annotation file and its SHA-256.

    Raises:
        UserError: no JSON, or without a list of images and, if `scored`, of annotations.
    """
    lists = ("images", "annotations") if scored else ("images",)
    try:
        text = path.read_bytes()
        content = json.loads(text)
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}).") from None
    except ValueError:
        raise UserError(f"{path} is not a complete JSON file: download it again.") from None
    entries = [content.get(name) for name in lists] if isinstance(content, dict) else [None]
    if not all(isinstance(e, list) and all(isinstance(x, dict) for x in e) for e in entries):
        names = " and ".join(f"'{name}'" for name in lists)
        raise UserError(f"{path} has no {names}: give a COCO annotation file.")
    return content, hashlib.sha256(text).hexdigest()


def is_labelled(annotation: Json) -> bool:
    """Whether somebody is trained on: some keypoint has a label, if of a crowd region too."""
    return any(v > 0 for v in annotation["keypoints"][2::3])


def completed(annotation: Json) -> Json:
    """With the fields that scoring reads and some datasets leave out.

    What is there is kept: `num_keypoints` of CrowdPose does not count head and neck.
    """
    labelled = sum(v > 0 for v in annotation["keypoints"][2::3])
    return {"iscrowd": 0, "num_keypoints": labelled, **annotation}


def area(annotation: Json) -> float:
    """A person's area, image pixels squared; without one a part of the box, as CrowdPose has it."""
    _, _, width, height = annotation["bbox"]
    return annotation["area"] if "area" in annotation else AREA_OF_BOX * width * height


Fault = tuple[str, str] | None  # kind, and what is wrong with the mend; None: nothing


def _checked(
    path: pathlib.Path,
    what: str,
    entries: list[Json],
    fault_of: Callable[[Json], Fault],
    skip_invalid: bool,
) -> tuple[list[Json], list[Problem]]:
    """The valid entries, and what is wrong with the others."""
    kept, problems = [], []
    for entry in entries:
        fault = fault_of(entry)
        if fault is None:
            kept.append(entry)
            continue
        kind, text = fault
        sentence = f"{path}: {what} {entry.get('id')} {text}, or {SKIP}."
        if not skip_invalid:
            raise UserError(sentence)
        problems.append(Problem(kind, sentence))
    if entries and not kept:
        raise UserError(f"{path} holds no valid {what}: {problems[-1].sentence}")
    return kept, problems


class _ImageCheck:
    """Says what is wrong with an image; remembers the ids it has seen."""

    def __init__(self):
        self._seen = set()

    def __call__(self, image: Json) -> Fault:
        for field in ("id", "file_name"):
            if field not in image:
                return f"'{field}' missing", f"is without '{field}': give a COCO annotation file"
        if not isinstance(image["file_name"], str):
            return "file_name is no text", "has a 'file_name' that is no text: mend it"
        if not _is_id(image["id"]):
            return "id is no number", "has an id that is not a whole number: number the images"
        if image["id"] in self._seen:
            return "duplicate image id", "is listed twice: give every image an id of its own"
        self._seen.add(image["id"])
        return None


class _PersonCheck:
    """Says what is wrong with an annotation; remembers the ids it has seen.

    A box or an area of zero matters for persons with keypoints alone: COCO's train2017
    has a person without keypoints whose box has no height (annotation 2206849).
    """

    def __init__(self, num_keypoints: int, image_ids: set[int]):
        self._num_keypoints = num_keypoints
        self._image_ids = image_ids
        self._seen = set()

    def __call__(self, annotation: Json) -> Fault:
        fault = self._form_fault(annotation) or self._value_fault(annotation)
        if fault is None:
            self._seen.add(annotation["id"])
        return fault

    def _form_fault(self, annotation: Json) -> Fault:
        for field in FIELDS:
            if field not in annotation:
                return (
                    f"'{field}' missing",
                    f"is without '{field}': give a keypoint annotation file, as COCO's "
                    "person_keypoints",
                )
        if not _is_id(annotation["id"]):
            return "id is no number", "has an id that is not a whole number: number them"
        if annotation["category_id"] != PERSON:
            category = annotation["category_id"]
            return (
                "not a person",
                f"is of category {category} and not {PERSON}, person: take it out of the file",
            )
        values, wanted = annotation["keypoints"], 3 * self._num_keypoints
        if not isinstance(values, list) or len(values) != wanted:
            count = len(values) if isinstance(values, list) else "no"
            return (
                "wrong keypoint count",
                f"has {count} numbers in 'keypoints' and not 3 x {self._num_keypoints}: set "
                "--config.dataset.skeleton to the skeleton of this file",
            )
        return None

    def _value_fault(self, annotation: Json) -> Fault:
        if annotation["id"] in self._seen:
            return "duplicate annotation id", "is listed twice: give each an id of its own"
        image = annotation["image_id"]
        if not _is_id(image) or image not in self._image_ids:
            return "image not listed", f"is of image {image}, which is not listed: list it"
        numbers = [*annotation["keypoints"], annotation.get("area", 1)]
        if not _are_finite(numbers) or not _is_box(annotation["bbox"]):
            return (
                "not finite numbers",
                "has a keypoint, a box or an area that is not made of finite numbers: mend it",
            )
        if any(v not in (0, 1, 2) for v in annotation["keypoints"][2::3]):
            return "unknown visibility", "has a keypoint whose v is not 0, 1 or 2: mend it"
        if is_labelled(annotation) and min(annotation["bbox"][2:]) <= 0:
            return "box of zero size", "has keypoints and a box of zero size: mend the box"
        if is_labelled(annotation) and annotation.get("area", 1) <= 0:
            return "area of zero", "has keypoints and an area of zero: mend the area"
        return None


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_finite(values: list) -> bool:
    try:
        return all(map(math.isfinite, values))
    except TypeError:  # something that is no number
        return False


def _is_box(values: Any) -> bool:
    return isinstance(values, list) and len(values) == 4 and _are_finite(values)
