import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.evaluation.box_iou import nearest_iou
from pinet_jax.evaluation.ground_truth import read_truth
from tests.pinet_jax.evaluation import annotation_cases as cases


def read(tmp_path, change=lambda _: None):
    return read_truth(cases.write(tmp_path / "truth.json", change), skeletons.COCO)


def test_a_good_file(tmp_path):
    truth = read(tmp_path, lambda content: content["images"].append({"id": 3}))
    assert truth.image_ids == (1, 2, 3)
    assert [p["id"] for p in truth.persons] == [1, 2, 3, 4, 5, 6]
    assert truth.has_sizes and truth.crowd_index is None


@pytest.mark.parametrize("quirk", cases.QUIRKS)
def test_what_official_files_hold_is_read_as_the_plain_file_is(tmp_path, quirk):
    plain, truth = read(tmp_path), read(tmp_path, cases.QUIRKS[quirk])
    assert truth.image_ids == plain.image_ids
    assert all(type(i) is int for i in truth.image_ids)
    assert truth.has_sizes and truth.box_iou() == plain.box_iou()
    fields = ("id", "image_id", "category_id", "iscrowd", "num_keypoints", "area", "bbox")
    for person, expected in zip(truth.persons, plain.persons, strict=True):
        assert {name: person[name] for name in fields} == {name: expected[name] for name in fields}
        keypoints, labelled = (np.reshape(p["keypoints"], (17, 3)) for p in (person, expected))
        assert np.isfinite(keypoints).all()
        np.testing.assert_array_equal(keypoints[:, 2], labelled[:, 2])
        np.testing.assert_array_equal(keypoints[keypoints[:, 2] > 0], labelled[labelled[:, 2] > 0])


@pytest.mark.parametrize("value", [..., None])
def test_sizes_are_known_if_all_who_must_be_found_have_an_area(tmp_path, value):
    assert not read(tmp_path, cases.bad_person({"area": value})).has_sizes

    def crowd_without(content):
        content["annotations"][4].pop("area")

    truth = read(tmp_path, crowd_without)
    assert truth.has_sizes
    assert truth.persons[4]["area"] == pytest.approx(0.53 * 40 * 30)


@pytest.mark.parametrize(("fields", "kind", "words"), cases.BAD_PERSONS)
def test_a_bad_annotation_is_named(tmp_path, fields, kind, words):
    with pytest.raises(UserError) as caught:
        read(tmp_path, cases.bad_person(fields))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'truth.json'}: ") and words in message
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize(("fields", "kind", "words"), cases.BAD_IMAGES)
def test_a_bad_image_is_named(tmp_path, fields, kind, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path, cases.bad_image(fields))


def with_crowd_index(*values):
    def change(content):
        for image, value in zip(content["images"], values, strict=True):
            image["crowdIndex"] = value

    return change


def test_a_crowd_index_may_be_above_1(tmp_path):
    truth = read(tmp_path, with_crowd_index(3.02, 0))
    assert truth.crowd_index == {1: 3.02, 2: 0.0} and not truth.has_sizes


@pytest.mark.parametrize("value", [-0.1, None, "high", float("inf"), float("nan")])
def test_a_crowd_index_is_a_number_of_0_or_more(tmp_path, value):
    with pytest.raises(UserError, match="image 2 has no crowdIndex of 0 or more and others have"):
        read(tmp_path, with_crowd_index(0.0, value))


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

    truth = read(tmp_path, change)
    assert truth.box_iou() == pytest.approx({1: 1 / 3, 2: 1 / 3, 5: 0})
