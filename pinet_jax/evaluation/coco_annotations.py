"""COCO keypoint annotations: the one set of rules by which they are read.

Published files hold more than the format's description says. What leaves every score as it
is, is accepted and brought into one form:

- a field that is null is as good as absent;
- ids, `category_id`, `iscrowd` and `num_keypoints` may be floats that are whole numbers;
- `iscrowd` and `num_keypoints` may be absent (no crowd; the labelled keypoints counted), so
  may `area` (a part of the box), and `keypoints` of a crowd or of `num_keypoints` 0;
- x and y of a keypoint without a label may be anything, they are never read;
- boxes and keypoints may lie outside the image;
- entries of another category than person may be there if they have no labelled keypoints.

Everything else is a `Fault`.
"""

import hashlib
import json
import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pinet_jax.errors import UserError

PERSON = 1  # category id, in all the datasets
AREA_OF_BOX = 0.53  # body over box, in CrowdPose's protocol
FIELDS = ("id", "image_id", "category_id", "bbox", "keypoints")
WHOLE = ("id", "image_id", "category_id", "iscrowd", "num_keypoints")
VISIBILITIES = (0, 1, 2)  # v: not labelled, hidden, seen

Json = Mapping[str, Any]


class Fault(NamedTuple):
    """What is wrong with an image or an annotation.

    Attributes:
        kind: a few words, the same for all of its kind, to count by.
        text: what it is, and the mend; what follows "annotation 7 ".
    """

    kind: str
    text: str


Checked = Iterator[tuple[Json, Fault | None]]  # in one form, unless something is wrong


def load(path: pathlib.Path, scored: bool) -> tuple[dict[str, Any], str]:
    """The content of an annotation file, without other categories, and the file's SHA-256.

    Args:
        path: the JSON file.
        scored: whether it has annotations; otherwise it lists images alone.

    Raises:
        UserError: it cannot be read, is no JSON, without a list of images and, if `scored`,
            of annotations, or has annotations and none of a person.
    """
    lists = ("images", "annotations") if scored else ("images",)
    try:
        text = path.read_bytes()
        content = json.loads(text)
    except OSError as error:
        raise UserError(f"Cannot read the annotations '{path}' ({error.strerror}).") from None
    except ValueError:
        raise UserError(f"'{path}' is not a complete JSON file: download it again.") from None
    entries = [content.get(name) for name in lists] if isinstance(content, dict) else [None]
    if not all(isinstance(e, list) and all(isinstance(x, dict) for x in e) for e in entries):
        names = " and ".join(f"'{name}'" for name in lists)
        raise UserError(f"'{path}' has no {names}: give a COCO annotation file.")
    if scored:
        content["annotations"] = _people(path, content["annotations"])
    return content, hashlib.sha256(text).hexdigest()


def images(entries: Iterable[Json]) -> Checked:
    """The images of a file in one form, each with what is wrong with it."""
    plain = map(_plain, entries)
    return _with_own_ids(((image, _image_fault(image)) for image in plain), "image")


def persons(entries: Iterable[Json], num_keypoints: int, images: Sequence[Json]) -> Checked:
    """The annotations of a file in one form, each with what is wrong with it.

    Args:
        entries: the annotations.
        num_keypoints: of the skeleton.
        images: those that they may be of, in one form. If they have a crowdIndex, the
            annotations' areas are not read.
    """
    image_ids = {image["id"] for image in images}
    area_is_read = not has_crowd_index(images)

    def check(entry: Json) -> tuple[Json, Fault | None]:
        person = _with_keypoints(_plain(entry), num_keypoints)
        fault = _form_fault(person, num_keypoints)
        if fault is not None:
            return person, fault
        person = completed(person)
        return person, _value_fault(person, image_ids, area_is_read)

    return _with_own_ids(map(check, entries), "annotation")


def sentence(path: pathlib.Path, what: str, entry: Json, fault: Fault, or_else: str = "") -> str:
    """A fault of an entry ("image" or "annotation") of a file, with another mend at the end."""
    return f"{path}: {what} {entry.get('id')} {fault.text}{or_else}."


def completed(person: Json) -> Json:
    """With the fields that scoring reads and some datasets leave out.

    What is there is kept: `num_keypoints` of CrowdPose does not count head and neck.
    """
    labelled = sum(v > 0 for v in person["keypoints"][2::3])
    return {"iscrowd": 0, "num_keypoints": labelled, **person}


def counts(person: Json) -> bool:
    """Whether a person must be found: the others are neither missed nor wrong if found.

    CrowdPose's `num_keypoints` leaves out head and neck, so it is read, not recounted.
    """
    return person["num_keypoints"] > 0 and not person["iscrowd"]


def has_label(person: Json) -> bool:
    """Whether some keypoint has a label: somebody to learn from, in a crowd region too."""
    return any(v > 0 for v in person["keypoints"][2::3])


def area(person: Json) -> float:
    """A person's area, image pixels squared: the file's own or, without one, a part of the box."""
    return person["area"] if "area" in person else area_of_box(person)


def area_of_box(person: Json) -> float:
    """A person's area as CrowdPose has it, image pixels squared."""
    _, _, width, height = person["bbox"]
    return AREA_OF_BOX * width * height


def has_crowd_index(images: Iterable[Json]) -> bool:
    """Whether images have a crowdIndex, which means CrowdPose's protocol."""
    return any("crowdIndex" in image for image in images)


def whole(value: Any) -> Any:
    """12.0 as 12; what is no whole number as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_whole(value: Any) -> bool:
    """Whether it is an int (true and false are none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def are_finite(values: Iterable[Any]) -> bool:
    """Whether all of them are finite numbers."""
    try:
        return all(map(math.isfinite, values))
    except (TypeError, OverflowError):  # something that is no number, or a huge one
        return False


# ---- One form


def _plain(entry: Json) -> dict[str, Any]:
    """Without what is null, and with whole numbers as int."""
    present = {name: value for name, value in entry.items() if value is not None}
    return present | {name: whole(present[name]) for name in WHOLE if name in present}


def _with_keypoints(person: dict[str, Any], num_keypoints: int) -> dict[str, Any]:
    """With keypoints for a crowd that lacks them, and with numbers where nothing reads x and y."""
    keypoints = person.get("keypoints")
    if not keypoints and (person.get("iscrowd") or person.get("num_keypoints") == 0):
        return {**person, "keypoints": [0] * 3 * num_keypoints}
    if isinstance(keypoints, list) and not are_finite(keypoints):
        return {**person, "keypoints": _numbers_where_unlabelled(keypoints)}
    return person


def _numbers_where_unlabelled(keypoints: list) -> list:
    triples = [keypoints[start : start + 3] for start in range(0, len(keypoints), 3)]
    return [
        value
        for triple in triples
        for value in ([0, 0, 0] if triple[2:] == [0] and not are_finite(triple) else triple)
    ]


# ---- What is wrong


def _with_own_ids(checked: Iterable[tuple[Json, Fault | None]], what: str) -> Checked:
    """The same; an id that a valid entry before it has is a fault, too."""
    seen = set()
    for entry, fault in checked:
        if fault is None and entry["id"] in seen:
            fault = Fault(f"duplicate {what} id", f"is listed twice: give every {what} one id")
        if fault is None:
            seen.add(entry["id"])
        yield entry, fault


def _image_fault(image: Json) -> Fault | None:
    if "id" not in image:
        return Fault("'id' missing", "is without 'id': give a COCO annotation file")
    if not is_whole(image["id"]):
        return Fault("id is no number", "has an id that is not a whole number: number the images")
    return None


def _form_fault(person: Json, num_keypoints: int) -> Fault | None:
    """Of what must be right before anything can be read."""
    for field in FIELDS:
        if field not in person:
            return Fault(
                f"'{field}' missing",
                f"is without '{field}': give a keypoint annotation file, as COCO's "
                "person_keypoints",
            )
    if not is_whole(person["id"]):
        return Fault("id is no number", "has an id that is not a whole number: number them")
    if person["category_id"] != PERSON:
        category = person["category_id"]
        return Fault(
            "not a person",
            f"is of category {category} and not {PERSON}, person: take it out of the file",
        )
    values, wanted = person["keypoints"], 3 * num_keypoints
    if not isinstance(values, list) or len(values) != wanted:
        count = len(values) if isinstance(values, list) else "no"
        return Fault(
            "wrong keypoint count",
            f"has {count} numbers in 'keypoints' and not 3 x {num_keypoints}: set "
            "--config.dataset.skeleton to the skeleton of this file",
        )
    box, own_area = person["bbox"], [person["area"]] if "area" in person else []
    if not isinstance(box, list) or len(box) != 4:
        return Fault("not a box", "has a bbox that is not [x, y, width, height]: mend it")
    if not are_finite([*values, *box, *own_area]):
        return Fault(
            "not finite numbers",
            "has a keypoint, a box or an area that is not made of finite numbers: mend it",
        )
    if any(v not in VISIBILITIES for v in values[2::3]):
        return Fault("unknown visibility", "has a keypoint whose v is not 0, 1 or 2: mend it")
    return None


def _value_fault(person: Json, image_ids: set[int], area_is_read: bool) -> Fault | None:
    """Of a completed person.

    A box or an area of zero matters for persons with keypoints alone: COCO's train2017
    has a person without keypoints whose box has no height (annotation 2206849).
    """
    image = person["image_id"]
    if not is_whole(image) or image not in image_ids:
        return Fault("image not listed", f"is of image {image}, which is not listed: list it")
    for field in ("iscrowd", "num_keypoints"):
        if not isinstance(person[field], int) or person[field] < 0:
            return Fault(
                f"{field} is no count", f"has a '{field}' that is no whole number: mend it"
            )
    if (has_label(person) or counts(person)) and min(person["bbox"][2:]) <= 0:
        return Fault("box of zero size", "has keypoints and a box of zero size: mend the box")
    if area_is_read and counts(person) and area(person) <= 0:
        return Fault("area of zero", "has keypoints and an area of zero: mend or remove the area")
    return None


def _people(path: pathlib.Path, entries: list[Json]) -> list[Json]:
    """Without those of another category, unless they have keypoints like a person."""
    people = [entry for entry in entries if not _is_something_else(entry)]
    if entries and not people:
        raise UserError(
            f"'{path}' has no annotation of category {PERSON}, person: give people this category."
        )
    return people


def _is_something_else(entry: Json) -> bool:
    keypoints = entry.get("keypoints")
    labelled = isinstance(keypoints, list) and any(v != 0 for v in keypoints[2::3])
    return entry.get("category_id") not in (None, PERSON) and not labelled
