"""Annotation files with everything that must be read, or refused: for tests of both readers."""

import copy
import json
import math
import pathlib
from collections.abc import Callable

import numpy as np

from pinet_jax import skeletons
from tests.pinet_jax.evaluation.scoring_cases import detection, person, random_people

Content = dict

PEOPLE = 4  # annotations 11 to 14, two on image 1 and two on image 2
CROWD, NOBODY = 15, 16  # a crowd region and a person without keypoints, on image 2


def content() -> Content:
    """A file as the format's description has it."""
    people = random_people(np.random.default_rng(0), skeletons.COCO, PEOPLE)
    annotations = [person(1 + i // 2, points, 11 + i) for i, points in enumerate(people)]
    blank = annotations[0] | {"image_id": 2, "keypoints": [0] * 51, "num_keypoints": 0}
    annotations += [
        blank | {"id": CROWD, "iscrowd": 1, "bbox": [0, 0, 40, 30], "area": 1200.0},
        blank | {"id": NOBODY, "bbox": [250, 200, 20, 40], "area": 420.0},
    ]
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        annotation["segmentation"] = [corners]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 300, "width": 280} for i in (1, 2)]
    categories = [{"id": 1, "name": "person"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def results() -> list[dict]:
    """Somewhat wrong detections of the people, of the crowd and of nobody."""
    rng = np.random.default_rng(1)
    poses = [np.reshape(a["keypoints"], (17, 3))[:, :2] for a in content()["annotations"][:PEOPLE]]
    noisy = [pose + rng.normal(0, 6, pose.shape) for pose in poses]
    found = [detection(1 + i // 2, pose, 0.4 + 0.1 * i) for i, pose in enumerate(noisy)]
    anywhere = [detection(2, rng.uniform(0, side, (17, 2)), 0.95) for side in (30, 250)]
    return found + anywhere


def write(path: pathlib.Path, change: Callable[[Content], None] = lambda _: None) -> pathlib.Path:
    """The file after `change`, which writes into its content."""
    changed = copy.deepcopy(content())
    change(changed)
    path.write_text(json.dumps(changed))
    return path


# ---- Accepted, with the same score


def _each(key: str, **fields) -> Callable[[Content], None]:
    """Sets fields of each image or annotation; ... removes one, a function maps it."""

    def change(changed: Content) -> None:
        for entry in changed[key]:
            _set(entry, fields)

    return change


def _of(number: int, **fields) -> Callable[[Content], None]:
    """The same for one annotation."""

    def change(changed: Content) -> None:
        (entry,) = (a for a in changed["annotations"] if a["id"] == number)
        _set(entry, fields)

    return change


def _set(entry: dict, fields: dict) -> None:
    for name, value in fields.items():
        if value is ...:
            del entry[name]
        else:
            entry[name] = value(entry[name]) if callable(value) else value


def _unlabelled_at(value) -> Callable[[Content], None]:
    def moved(keypoints: list) -> list:
        triples = np.reshape(np.array(keypoints, object), (-1, 3))
        triples[triples[:, 2] == 0, :2] = value
        return triples.reshape(-1).tolist()

    return _each("annotations", keypoints=moved)


def _with_another_category(changed: Content) -> None:
    changed["categories"].append({"id": 18, "name": "dog"})
    dog = {"id": 99, "image_id": 1, "category_id": 18, "bbox": [1, 2, 3, 4]}
    changed["annotations"][:0] = [dog, dog | {"id": 98, "keypoints": [], "num_keypoints": 0}]


def _floats(*places: int) -> Callable[[list], list]:
    def as_floats(keypoints: list) -> list:
        return [float(v) if i % 3 in places else v for i, v in enumerate(keypoints)]

    return as_floats


QUIRKS = {
    "image ids as floats": _each("images", id=float),
    "annotations' ids as floats": _each("annotations", id=float, image_id=float),
    "category_id as float": _each("annotations", category_id=float),
    "num_keypoints as float": _each("annotations", num_keypoints=float),
    "num_keypoints missing": _each("annotations", num_keypoints=...),
    "num_keypoints null": _each("annotations", num_keypoints=None),
    "iscrowd as float": _each("annotations", iscrowd=float),
    "iscrowd as true and false": _each("annotations", iscrowd=bool),
    "iscrowd missing": _of(11, iscrowd=...),
    "iscrowd null": _of(11, iscrowd=None),
    "v as float": _each("annotations", keypoints=_floats(2)),
    "x and y as floats": _each("annotations", keypoints=_floats(0, 1)),
    "NaN where nothing is labelled": _unlabelled_at(math.nan),
    "null where nothing is labelled": _unlabelled_at(None),
    "far away where nothing is labelled": _unlabelled_at(-1e6),
    "a crowd without keypoints": _of(CROWD, keypoints=...),
    "a crowd with null keypoints": _of(CROWD, keypoints=None),
    "a crowd with empty keypoints": _of(CROWD, keypoints=[]),
    "a crowd with neither": _of(CROWD, keypoints=..., num_keypoints=...),
    "nobody's keypoints missing": _of(NOBODY, keypoints=...),
    "area as int": _of(CROWD, area=1200),
    "segmentation missing": _each("annotations", segmentation=...),
    "segmentation null": _each("annotations", segmentation=None),
    "segmentation empty": _each("annotations", segmentation=[]),
    "segmentation flat": _each("annotations", segmentation=lambda polygons: polygons[0]),
    "width and height swapped": _each("images", height=280, width=300),
    "width and height missing": _each("images", height=..., width=...),
    "width and height null": _each("images", height=None, width=None),
    "another category": _with_another_category,
    "categories missing": lambda changed: changed.pop("categories"),
    "unknown fields": _each("annotations", area_exact=0, attributes={"hidden": None}),
}


# ---- Accepted, with a score of its own, which the second evaluator must give too


def _first(*triple: float) -> Callable[[list], list]:
    return lambda keypoints: [*triple, *keypoints[3:]]


ODDITIES = {
    "a box beyond the image": _of(11, bbox=[200, 250, 500, 400]),
    "a box with negative corners": _of(12, bbox=[-30.5, -12.25, 120, 90]),
    "a keypoint labelled at 0, 0": _of(11, keypoints=_first(0, 0, 1)),
    "a keypoint left of the image": _of(12, keypoints=_first(-40, -3.5, 2)),
    "a keypoint right of the image": _of(13, keypoints=_first(900, 700, 2)),
    "a crowd with keypoints": _of(13, iscrowd=1),
    "a person with keypoints that do not count": _of(13, num_keypoints=0),
    "a crowd of no area": _of(CROWD, area=0),
    "a crowd of a flat box": _of(CROWD, bbox=[9.98, 188.56, 5.54, 0.0], area=0.0),
    "fewer keypoints counted than labelled": _of(13, num_keypoints=1),
}


# ---- Refused

# Changes of annotation 12, the kind of the fault, and words of its sentence.
BAD_PERSONS = [
    ({"keypoints": ...}, "'keypoints' missing", "annotation 12 is without 'keypoints'"),
    ({"keypoints": None}, "'keypoints' missing", "annotation 12 is without 'keypoints'"),
    ({"bbox": ...}, "'bbox' missing", "annotation 12 is without 'bbox'"),
    ({"category_id": None}, "'category_id' missing", "annotation 12 is without 'category_id'"),
    ({"image_id": ...}, "'image_id' missing", "annotation 12 is without 'image_id'"),
    ({"id": "twelve"}, "id is no number", "annotation twelve has an id that is not"),
    ({"id": 12.5}, "id is no number", "annotation 12.5 has an id that is not"),
    ({"category_id": 2}, "not a person", "annotation 12 is of category 2 and not 1, person"),
    ({"keypoints": [1] * 42}, "wrong keypoint count", "annotation 12 has 42 numbers"),
    ({"keypoints": []}, "wrong keypoint count", "annotation 12 has 0 numbers"),
    ({"keypoints": "none"}, "wrong keypoint count", "annotation 12 has no numbers"),
    ({"id": 11}, "duplicate annotation id", "annotation 11 is listed twice"),
    ({"id": 11.0}, "duplicate annotation id", "annotation 11 is listed twice"),
    ({"image_id": 3}, "image not listed", "annotation 12 is of image 3"),
    ({"image_id": [1]}, "image not listed", "annotation 12 is of image"),
    ({"image_id": 1.5}, "image not listed", "annotation 12 is of image 1.5"),
    ({"bbox": [1, 2, math.nan, 4]}, "not finite numbers", "annotation 12 has a keypoint, a box"),
    ({"bbox": [1, 2, 3]}, "not a box", "annotation 12 has a bbox that is not [x, y, width"),
    ({"bbox": "none"}, "not a box", "annotation 12 has a bbox that is not [x, y, width"),
    ({"area": math.inf}, "not finite numbers", "annotation 12 has a keypoint, a box or an area"),
    ({"area": "large"}, "not finite numbers", "annotation 12 has a keypoint, a box or an area"),
    ({"keypoints": _first(math.nan, 1, 2)}, "not finite numbers", "annotation 12 has a keypoint"),
    ({"keypoints": _first(1, None, 1)}, "not finite numbers", "annotation 12 has a keypoint"),
    ({"keypoints": _first(1, "x", 1)}, "not finite numbers", "annotation 12 has a keypoint"),
    ({"keypoints": _first(1, 2, None)}, "not finite numbers", "annotation 12 has a keypoint"),
    ({"keypoints": _first(1, 2, 3)}, "unknown visibility", "v is not 0, 1 or 2"),
    ({"keypoints": _first(1, 2, 0.5)}, "unknown visibility", "v is not 0, 1 or 2"),
    ({"iscrowd": "0"}, "iscrowd is no count", "annotation 12 has a 'iscrowd' that is no whole"),
    ({"num_keypoints": 1.5}, "num_keypoints is no count", "a 'num_keypoints' that is no whole"),
    ({"num_keypoints": -1}, "num_keypoints is no count", "a 'num_keypoints' that is no whole"),
    ({"bbox": [1, 2, 0, 4]}, "box of zero size", "annotation 12 has keypoints and a box of zero"),
    ({"bbox": [1, 2, 5, -4]}, "box of zero size", "annotation 12 has keypoints and a box of zero"),
    ({"area": 0.0}, "area of zero", "annotation 12 has keypoints and an area of zero"),
    ({"area": -3}, "area of zero", "annotation 12 has keypoints and an area of zero"),
]

# Changes of image 2, which then has no annotations.
BAD_IMAGES = [
    ({"id": ...}, "'id' missing", "image None is without 'id'"),
    ({"id": "x"}, "id is no number", "image x has an id"),
    ({"id": 2.5}, "id is no number", "image 2.5 has an id"),
    ({"id": 1}, "duplicate image id", "image 1 is listed twice"),
    ({"id": 1.0}, "duplicate image id", "image 1 is listed twice"),
]


def bad_person(fields: dict) -> Callable[[Content], None]:
    """Changes annotation 12 alone."""
    return _of(12, **fields)


def bad_image(fields: dict) -> Callable[[Content], None]:
    """Changes image 2 alone, and removes its annotations."""

    def change(changed: Content) -> None:
        _set(changed["images"][1], fields)
        changed["annotations"] = [a for a in changed["annotations"] if a["image_id"] == 1]

    return change
