import json
import math

import numpy as np
import pytest
from absl import logging

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.evaluation.results import checked_results, read_results
from tests.pinet_jax.evaluation.scoring_cases import detection


def results(count=3):
    rng = np.random.default_rng(0)
    return [detection(5, rng.uniform(0, 99, (17, 2)), 0.1 * i) for i in range(count)]


def check(given):
    return checked_results(given, skeletons.COCO, [5, 6], "truth.json", "'results.json'")


def test_a_file_gives_its_results(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results()))
    given = read_results(path)
    assert given == results()
    assert check(given) == given
    assert check([]) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"image_id": 1, ', "not a whole JSON file"),
        (b"\xff\xfe", "not a whole JSON file"),
        (b'{"results": []}', "not a list"),
    ],
)
def test_files_that_are_no_results(tmp_path, content, words):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_results(path)
    assert str(path) in str(error.value)


def test_an_absent_file(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read the results '.*absent.json' \(No such"):
        read_results(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": ...}, "has no 'score'"),
        ({"keypoints": ...}, "has no 'keypoints'"),
        ({"category_id": ...}, "has no 'category_id'"),
        ({"image_id": "5"}, "image_id that is no whole number"),
        ({"image_id": 5.5}, "image_id that is no whole number"),
        ({"image_id": True}, "image_id that is no whole number"),
        ({"image_id": 7}, "is of image 7, which 'truth.json' does not list"),
        ({"category_id": 2}, "is of category 2"),
        ({"keypoints": [0.0] * 42}, "42 numbers in 'keypoints' and not 3 x 17"),
        ({"keypoints": None}, "no numbers in 'keypoints'"),
        ({"keypoints": [math.nan] + [0.0] * 50}, "value in 'keypoints' that is not a finite"),
        ({"keypoints": [0.0, None] + [0.0] * 49}, "value in 'keypoints' that is not a finite"),
        ({"keypoints": [0.0] * 49 + ["1", 0.0]}, "value in 'keypoints' that is not a finite"),
        ({"score": math.inf}, "value in 'score' that is not a finite number"),
        ({"score": None}, "value in 'score' that is not a finite number"),
    ],
)
def test_a_bad_entry_is_named(changes, words):
    given = results()
    changed = given[1] | changes
    given[1] = {field: value for field, value in changed.items() if value is not ...}
    with pytest.raises(UserError, match=words) as error:
        check(given)
    message = str(error.value)
    assert message.startswith("'results.json': entry 1 ") and message.endswith(".")


@pytest.mark.parametrize(
    "changes",
    [
        {"image_id": 5.0},
        {"category_id": 1.0},
        {"score": 1},
        {"bbox": None, "area": "unknown"},
    ],
)
def test_what_other_programs_write_is_taken(changes):
    given = results()
    before = given[1] | changes
    given[1] = dict(before)
    taken = check(given)[1]
    assert taken == before and type(taken["image_id"]) is type(taken["category_id"]) is int
    assert given[1] == before and type(given[1]["image_id"]) is type(before["image_id"])


@pytest.mark.parametrize("value", [math.nan, None, "seen"])
def test_scores_of_keypoints_are_not_read(value):
    given = results()
    given[0]["keypoints"][2] = given[0]["keypoints"][50] = value
    taken = check(given)[0]["keypoints"]
    assert taken[2] == taken[50] == 0
    assert taken[:2] == given[0]["keypoints"][:2] and taken[3:50] == given[0]["keypoints"][3:50]


def test_an_entry_that_is_no_object():
    with pytest.raises(UserError, match="entry 0 is not an object"):
        check([[1, 2, 3]])


def test_a_repeated_entry_is_warned_of(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    check(results())
    assert not said
    given = results()
    check([*given, given[1], given[1], given[2] | {"image_id": 6}])
    (warning,) = said
    assert "2 entries repeat" in warning and "entry 3 repeats entry 1, image 5" in warning
