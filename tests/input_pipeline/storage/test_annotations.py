import json
import math
import pathlib

import numpy as np
import pytest

from input_pipeline.storage import annotations
from pinet_jax.errors import UserError
from tests.input_pipeline import fake_coco
from tests.paths import DATA

REAL = sorted(DATA.glob("*/annotations/*.json"))

IMAGES = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
FACE = np.array([[3, 4, 2], [5, 6, 1], *[[0, 0, 0]] * 15])
NOBODY = np.zeros((17, 3), int)


def person(number: int = 7, keypoints: np.ndarray = FACE, **fields) -> dict:
    return fake_coco.annotation(number, 1, keypoints, **fields)


def without(field: str) -> dict:
    return {name: value for name, value in person().items() if name != field}


def keypoints_with(value: float, place: int) -> list:
    values = FACE.reshape(-1).tolist()
    values[place] = value
    return values


def write(folder: pathlib.Path, persons: list, images: list = IMAGES) -> pathlib.Path:
    return fake_coco.write_annotations(folder, "val", images, persons)


def read(path: pathlib.Path, skip_invalid: bool = False) -> annotations.Annotations:
    return annotations.read(path, 17, scored=True, skip_invalid=skip_invalid)


BAD_PERSONS = [
    (without("keypoints"), "'keypoints' missing", "annotation 7 is without 'keypoints'"),
    (without("bbox"), "'bbox' missing", "annotation 7 is without 'bbox'"),
    (person("seven"), "id is no number", "annotation seven has an id that is not"),
    (person(category_id=2), "not a person", "annotation 7 is of category 2 and not 1, person"),
    (person(keypoints=FACE[:14]), "wrong keypoint count", "annotation 7 has 42 numbers"),
    ({**person(), "keypoints": None}, "wrong keypoint count", "annotation 7 has no numbers"),
    (person(8), "duplicate annotation id", "annotation 8 is listed twice"),
    ({**person(), "image_id": 3}, "image not listed", "annotation 7 is of image 3"),
    ({**person(), "image_id": [1]}, "image not listed", "annotation 7 is of image"),
    (person(bbox=[1, 2, math.nan, 4]), "not finite numbers", "annotation 7 has a keypoint, a box"),
    (person(bbox=[1, 2, 3]), "not finite numbers", "annotation 7 has a keypoint, a box"),
    (person(area=math.inf), "not finite numbers", "annotation 7 has a keypoint, a box or an area"),
    ({**person(), "keypoints": keypoints_with(math.nan, 0)}, "not finite numbers", "annotation 7"),
    ({**person(), "keypoints": keypoints_with("x", 1)}, "not finite numbers", "annotation 7"),
    ({**person(), "keypoints": keypoints_with(3, 2)}, "unknown visibility", "v is not 0, 1 or 2"),
    ({**person(), "keypoints": keypoints_with(0.5, 2)}, "unknown visibility", "v is not 0, 1 or 2"),
    (person(bbox=[1, 2, 0, 4]), "box of zero size", "annotation 7 has keypoints and a box of zero"),
    (person(area=0.0), "area of zero", "annotation 7 has keypoints and an area of zero"),
]


@pytest.mark.parametrize(("bad", "kind", "words"), BAD_PERSONS)
def test_an_invalid_annotation_is_named_or_skipped(tmp_path, bad, kind, words):
    path = write(tmp_path, [person(8), bad, person(9)])
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and words in message and "\n" not in message
    assert message.endswith(
        ", or leave such out with --skip_invalid of input_pipeline.prepare or "
        "--config.dataset.skip_invalid=True."
    )

    result = read(path, skip_invalid=True)
    assert [problem.kind for problem in result.problems] == [kind]
    assert [problem.sentence for problem in result.problems] == [message]
    assert [kept["id"] for kept in result.of_image[1]] == [8, 9]


BAD_IMAGES = [
    ({"id": 3}, "'file_name' missing", "image 3 is without 'file_name'"),
    ({"file_name": "c.jpg"}, "'id' missing", "image None is without 'id'"),
    ({"id": 3, "file_name": 5}, "file_name is no text", "image 3 has a 'file_name'"),
    ({"id": "x", "file_name": "c.jpg"}, "id is no number", "image x has an id"),
    ({"id": 2, "file_name": "c.jpg"}, "duplicate image id", "image 2 is listed twice"),
]


@pytest.mark.parametrize(("bad", "kind", "words"), BAD_IMAGES)
def test_an_invalid_image_is_named_or_skipped(tmp_path, bad, kind, words):
    path = write(tmp_path, [person()], [*IMAGES, bad])
    with pytest.raises(UserError, match=words) as caught:
        read(path)
    assert str(path) in str(caught.value)
    result = read(path, skip_invalid=True)
    assert [problem.kind for problem in result.problems] == [kind]
    assert result.images == IMAGES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "not a complete JSON file"),
        ("[]", "no 'images' and 'annotations'"),
        ('{"images": []}', "no 'images' and 'annotations'"),
        ('{"images": [1], "annotations": []}', "no 'images' and 'annotations'"),
        ('{"images": {}, "annotations": []}', "no 'images' and 'annotations'"),
    ],
)
def test_a_file_of_something_else_is_named(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    for skip_invalid in (False, True):
        with pytest.raises(UserError, match=message) as caught:
            read(path, skip_invalid)
        assert str(path) in str(caught.value)


def test_skipping_everything_is_an_error(tmp_path):
    """Such as annotations of another skeleton."""
    path = write(tmp_path, [person(1, FACE[:14]), person(2, FACE[:14])])
    with pytest.raises(UserError, match=r"no valid annotation.*42 numbers.*dataset\.skeleton"):
        read(path, skip_invalid=True)


def test_odd_boxes_matter_for_persons_with_keypoints_alone(tmp_path):
    """COCO's train2017 has a person without keypoints whose box has no height."""
    flat = person(1, NOBODY, bbox=[9.98, 188.56, 5.54, 0.0], area=0.0)
    crowd = person(2, NOBODY, iscrowd=1, bbox=[0, 0, 0, 0], area=0)
    result = read(write(tmp_path, [flat, crowd]))
    assert not result.problems
    assert not any(map(annotations.is_labelled, result.of_image[1]))


def test_what_is_missing_is_completed_and_what_is_there_kept():
    bare = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 4]}
    bare["keypoints"] = FACE.reshape(-1).tolist()
    full = annotations.completed(bare)
    assert full == {**bare, "iscrowd": 0, "num_keypoints": 2}
    assert annotations.area(full) == pytest.approx(0.53 * 40)
    kept = {**full, "num_keypoints": 1, "area": 3.0, "segmentation": []}
    assert annotations.completed(kept) == kept and annotations.area(kept) == 3.0


def test_unscored_files_list_images_alone(tmp_path):
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps({"info": {"year": 2017}, "images": IMAGES}))
    result = annotations.read(path, 17, scored=False, skip_invalid=False)
    assert result.images == IMAGES and not result.of_image
    assert result.header == {"info": {"year": 2017}}


@pytest.mark.skipif(not REAL, reason="the real samples are not there")
def test_real_files_are_valid():
    for path in REAL:
        result = annotations.read(path, 14 if "crowdpose" in path.name else 17, True, False)
        assert result.images and result.of_image
