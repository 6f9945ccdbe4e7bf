"""The annotations that a dataset is prepared from: what is invalid stops it or is left out."""

import dataclasses
import pathlib
from collections import defaultdict
from collections.abc import Mapping

from pinet_jax.errors import UserError
from pinet_jax.evaluation import coco_annotations
from pinet_jax.evaluation.coco_annotations import Checked, Fault, Json

SKIP = (
    "leave such out with --skip_invalid of input_pipeline.prepare or "
    "--config.dataset.skip_invalid=True"
)


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
    """The valid part of an annotation file, in the one form of `coco_annotations`.

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
    content, _ = coco_annotations.load(path, scored)
    listed = _with_files(coco_annotations.images(content.pop("images")))
    images, bad_images = _valid(path, "image", listed, skip_invalid)
    entries = content.pop("annotations", []) if scored else []
    checked = coco_annotations.persons(entries, num_keypoints, images)
    persons, bad_persons = _valid(path, "annotation", checked, skip_invalid)
    of_image = defaultdict(list)
    for person in persons:
        of_image[person["image_id"]].append(person)
    return Annotations(content, images, of_image, bad_images + bad_persons)


def _with_files(images: Checked) -> Checked:
    """Images must say which file they are, too."""
    for image, fault in images:
        yield image, fault or _file_fault(image)


def _file_fault(image: Json) -> Fault | None:
    if "file_name" not in image:
        text = "is without 'file_name': give a COCO annotation file"
        return Fault("'file_name' missing", text)
    if not isinstance(image["file_name"], str):
        return Fault("file_name is no text", "has a 'file_name' that is no text: mend it")
    return None


def _valid(
    path: pathlib.Path, what: str, checked: Checked, skip_invalid: bool
) -> tuple[list[Json], list[Problem]]:
    """The valid entries, and what is wrong with the others."""
    kept, problems = [], []
    for entry, fault in checked:
        if fault is None:
            kept.append(entry)
            continue
        sentence = coco_annotations.sentence(path, what, entry, fault, f", or {SKIP}")
        if not skip_invalid:
            raise UserError(sentence)
        problems.append(Problem(fault.kind, sentence))
    if problems and not kept:
        raise UserError(f"{path} holds no valid {what}: {problems[-1].sentence}")
    return kept, problems
