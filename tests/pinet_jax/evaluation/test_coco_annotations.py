"""What every reader of annotations has in common; ground truth and preparing test it, too."""

import hashlib
import json

import numpy as np
import pytest

from pinet_jax.errors import UserError
from pinet_jax.evaluation import coco_annotations
from tests.pinet_jax.evaluation import annotation_cases as cases


def persons_of(content, num_keypoints=17):
    images = [image for image, _ in coco_annotations.images(content["images"])]
    return list(coco_annotations.persons(content["annotations"], num_keypoints, images))


def test_a_plain_file_stays_as_it_is(tmp_path):
    path = cases.write(tmp_path / "truth.json")
    content, sha256 = coco_annotations.load(path, scored=True)
    assert content == cases.content()
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert persons_of(content) == [(person, None) for person in content["annotations"]]
    images = list(coco_annotations.images(content["images"]))
    assert images == [(image, None) for image in content["images"]]


def test_one_form_has_int_ids_and_no_null():
    entry = {"id": 1e5, "image_id": 7.0, "category_id": 1.0, "bbox": [0, 0, 4, 5], "area": None}
    ((person, fault),) = coco_annotations.persons(
        [{**entry, "keypoints": [1, 2, 2.0, None, float("nan"), 0], "iscrowd": None}],
        2,
        [{"id": 7}],
    )
    assert fault is None
    assert person == {
        **{"id": 100_000, "image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 5]},
        **{"keypoints": [1, 2, 2.0, 0, 0, 0], "iscrowd": 0, "num_keypoints": 1},
    }
    assert all(type(person[name]) is int for name in ("id", "image_id", "category_id"))


def test_an_area_that_is_absent_is_a_part_of_the_box():
    box = {"bbox": [7, 7, 10, 4]}
    assert coco_annotations.area(box) == pytest.approx(0.53 * 40)
    assert coco_annotations.area({**box, "area": 3.0}) == 3.0
    assert coco_annotations.area_of_box({**box, "area": 3.0}) == pytest.approx(0.53 * 40)


def test_with_a_crowd_index_an_area_of_zero_is_not_read():
    content = cases.content()
    content["annotations"][1]["area"] = 0
    assert [fault.kind for _, fault in persons_of(content) if fault] == ["area of zero"]
    for image in content["images"]:
        image["crowdIndex"] = 1.3
    assert not any(fault for _, fault in persons_of(content))


def test_who_counts_and_who_is_learnt_from():
    labels = np.zeros((3, 3), int)
    bare = {"keypoints": labels.reshape(-1).tolist(), "iscrowd": 0, "num_keypoints": 0}
    head = bare | {"keypoints": [1, 2, 1, *bare["keypoints"][3:]]}
    everybody = [bare, head, head | {"num_keypoints": 1}, head | {"num_keypoints": 1, "iscrowd": 1}]
    assert list(map(coco_annotations.counts, everybody)) == [False, False, True, False]
    assert list(map(coco_annotations.has_label, everybody)) == [False, True, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "is not a complete JSON file: download it again"),
        ("\xff", "is not a complete JSON file: download it again"),
        ("[]", "has no 'images' and 'annotations'"),
        ('{"images": []}', "has no 'images' and 'annotations'"),
        ('{"images": [1], "annotations": []}', "has no 'images' and 'annotations'"),
        ('{"images": {}, "annotations": []}', "has no 'images' and 'annotations'"),
        (
            '{"images": [], "annotations": [{"category_id": 3}]}',
            "has no annotation of category 1, person",
        ),
    ],
)
def test_a_file_of_something_else_is_named(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=message) as caught:
        coco_annotations.load(path, scored=True)
    assert str(path) in str(caught.value)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(cases.content()), encoding="utf-8-sig")
    assert coco_annotations.load(path, scored=True)[0] == cases.content()


def test_another_category_with_keypoints_is_a_fault():
    """It may be a person: left out, it would be neither found nor missed."""
    content = cases.content()
    content["annotations"][1]["category_id"] = 2
    assert [fault.kind for _, fault in persons_of(content) if fault] == ["not a person"]
