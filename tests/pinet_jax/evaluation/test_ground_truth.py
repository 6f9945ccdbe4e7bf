import json

import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.evaluation.box_iou import nearest_iou
from pinet_jax.evaluation.ground_truth import read_truth
from tests.pinet_jax.evaluation.scoring_cases import person, random_people, write_truth


def write_changed(tmp_path, change):
    """A truth of two people on images 1 and 2, after `change(content)`."""
    people = random_people(np.random.default_rng(0), skeletons.COCO, 2)
    annotations = [person(i + 1, keypoints, 10 + i) for i, keypoints in enumerate(people)]
    path = write_truth(tmp_path / "truth.json", annotations)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_a_good_file(tmp_path):
    path = write_changed(tmp_path, lambda content: content["images"].append({"id": 3}))
    truth = read_truth(path, skeletons.COCO)
    assert truth.image_ids == (1, 2, 3)
    assert [p["id"] for p in truth.persons] == [1, 2]
    assert truth.has_sizes and truth.crowd_index is None
    part = truth.only([2, 3, 99])
    assert part.image_ids == (2, 3) and [p["id"] for p in part.persons] == [2]


@pytest.mark.parametrize(
    ("where", "changes", "words"),
    [
        ("annotations", {"id": 10}, "lists annotation 10 twice"),
        ("images", {"id": 1}, "lists image 1 twice"),
        ("annotations", {"image_id": 7}, "annotation 11 is of image 7, not listed"),
        ("annotations", {"category_id": 3}, "annotation 11 is of category 3, not a person"),
        ("annotations", {"keypoints": [1] * 42}, r"14 keypoints a person .* \(annotation 11\)"),
        ("annotations", {"keypoints": [float("nan")] * 51}, "annotation 11 has a number that is"),
        ("annotations", {"bbox": [0, 0, float("inf"), 1]}, "annotation 11 has a number that is"),
        ("annotations", {"area": float("nan")}, "annotation 11 has a number that is not finite"),
        ("annotations", {"bbox": [0, 0, 1]}, "annotation 11 has a bbox that is not x, y"),
        ("annotations", {"keypoints": "none"}, "keypoints a person"),
        ("annotations", {"bbox": None}, "is not a COCO keypoint annotation file"),
        ("images", {"crowdIndex": 0.5}, "image 1 has no crowdIndex"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, where, changes, words):
    path = write_changed(tmp_path, lambda content: content[where][1].update(changes))
    with pytest.raises(UserError, match=words) as error:
        read_truth(path, skeletons.COCO)
    assert str(path) in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize("value", [-0.1, 1.5, None, "high"])
def test_a_crowd_index_is_from_0_to_1(tmp_path, value):
    def change(content):
        content["images"][0]["crowdIndex"] = 0.0
        content["images"][1]["crowdIndex"] = value

    with pytest.raises(UserError, match="image 2 has no crowdIndex between 0 and 1"):
        read_truth(write_changed(tmp_path, change), skeletons.COCO)


def slow_iou(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def test_nearest_iou_agrees_with_a_slow_reference():
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 5):
        boxes = rng.uniform(1, 60, (count, 4))
        expected = [
            max((slow_iou(a, b) for j, b in enumerate(boxes) if j != i), default=0)
            for i, a in enumerate(boxes)
        ]
        np.testing.assert_allclose(nearest_iou(boxes), expected)


def test_crowding_is_among_those_who_must_be_found(tmp_path):
    def change(content):
        boxes = [[0, 0, 2, 2], [1, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]]
        first = content["annotations"][0]
        content["annotations"] = [first | {"id": i + 1, "bbox": box} for i, box in enumerate(boxes)]
        content["annotations"][2]["iscrowd"] = 1
        content["annotations"][3]["num_keypoints"] = 0
        content["annotations"][4]["image_id"] = 2

    truth = read_truth(write_changed(tmp_path, change), skeletons.COCO)
    assert truth.box_iou() == pytest.approx({1: 1 / 3, 2: 1 / 3, 5: 0})
