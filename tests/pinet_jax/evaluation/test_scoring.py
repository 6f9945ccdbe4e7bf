import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinet_jax import skeletons
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.evaluation import crowding, loop
from pinet_jax.evaluation.results import coco_results
from pinet_jax.evaluation.scoring import percent, table
from tests.paths import DATA
from tests.pinet_jax.evaluation.scoring_cases import (
    MOST,
    detection,
    evaluate,
    person,
    random_people,
    truth_as_results,
    write_truth,
)

SAMPLES = {
    "coco": ("coco", "person_keypoints_val2017"),
    "coco_people": ("coco", "person_keypoints_val2017"),
    "ochuman": ("coco", "ochuman_coco_format_test_range_0.00_1.00"),
    "crowdpose": ("crowdpose", "crowdpose_test"),
}


@pytest.mark.skipif(not DATA.is_dir(), reason="the sample data is absent")
@pytest.mark.parametrize("dataset", SAMPLES)
def test_the_truth_of_every_dataset_scores_one(dataset):
    skeleton, name = SAMPLES[dataset]
    path = DATA / dataset / "annotations" / f"{name}.json"
    metrics = evaluate(truth_as_results(path), path, skeletons.get(skeleton), MOST)
    found = {name: value for name, value in metrics.items() if value >= 0}
    assert found == pytest.approx(dict.fromkeys(found, 1))
    assert {"AP", "AP50", "AP75", "AR"} <= set(found)


def test_of_more_people_than_detections_are_scored_the_others_are_missed(tmp_path):
    people = random_people(np.random.default_rng(8), skeletons.COCO, 25)
    annotations = [person(1, keypoints, i + 1) for i, keypoints in enumerate(people)]
    path = write_truth(tmp_path / "truth.json", annotations)
    metrics = evaluate(truth_as_results(path), path, skeletons.COCO, MOST)
    assert metrics["AR"] == pytest.approx(20 / 25)
    assert metrics["AP"] == pytest.approx(81 / 101)  # recall levels 0 to 0.80


def test_the_truth_as_detections_scores_one(tmp_path):
    rng = np.random.default_rng(1)
    people = random_people(rng, skeletons.COCO, 6)
    annotations = [person(i // 3, keypoints, i + 1) for i, keypoints in enumerate(people)]
    path = write_truth(tmp_path / "truth.json", annotations)
    results = [detection(i // 3, k[:, :2], 0.5) for i, k in enumerate(people)]
    metrics = evaluate(results, path, skeletons.COCO, MOST)
    assert metrics["AP"] == metrics["AP50"] == metrics["AR"] == pytest.approx(1)
    # A person missed lowers recall.
    half = evaluate(results[:3], path, skeletons.COCO, MOST)
    assert half["AR"] == pytest.approx(0.5)


def test_detections_beyond_the_limit_do_not_count(tmp_path):
    keypoints = random_people(np.random.default_rng(2), skeletons.COCO, 1)[0]
    path = write_truth(tmp_path / "truth.json", [person(1, keypoints, 1)])
    wrong, right = keypoints[:, :2] + 1000, keypoints[:, :2]
    results = [detection(1, right, 0.1), detection(1, wrong, 0.8), detection(1, wrong, 0.9)]
    assert evaluate(results, path, skeletons.COCO, 3)["AR"] == pytest.approx(1)
    assert evaluate(results, path, skeletons.COCO, 2)["AR"] == 0


def test_no_results_score_zero_and_nothing_is_printed(tmp_path, capsys):
    keypoints = random_people(np.random.default_rng(3), skeletons.COCO, 1)[0]
    path = write_truth(tmp_path / "truth.json", [person(1, keypoints, 1, area=200.0**2)])
    metrics = evaluate([], path, skeletons.COCO, MOST)
    assert metrics["AP"] == metrics["AR"] == metrics["APL"] == 0
    assert metrics["APM"] == -1  # no person of that size
    assert capsys.readouterr().out == ""


def test_annotation_ids_may_count_from_zero(tmp_path):
    """The COCO tools take a match with id 0 for none."""
    keypoints = random_people(np.random.default_rng(9), skeletons.COCO, 1)[0]
    path = write_truth(tmp_path / "truth.json", [person(1, keypoints, 0)])
    assert evaluate(truth_as_results(path), path, skeletons.COCO, MOST)["AP"] == pytest.approx(1)


def test_an_area_that_is_absent_is_a_part_of_the_box(tmp_path):
    keypoints = random_people(np.random.default_rng(4), skeletons.CROWDPOSE, 1)[0]
    with_area = person(1, keypoints, 1)
    with_area["area"] = 0.53 * with_area["bbox"][2] * with_area["bbox"][3]
    without = {name: value for name, value in with_area.items() if name != "area"}
    results = [detection(1, keypoints[:, :2] + 5, 0.5)]
    scores = [
        evaluate(results, write_truth(tmp_path / f"{i}.json", [a]), skeletons.CROWDPOSE, MOST)
        for i, a in enumerate((with_area, without))
    ]
    assert {"APM", "APL", "ARM", "ARL"} == set(scores[0]) - set(scores[1])  # sizes mean nothing
    assert scores[1].items() <= scores[0].items()


def test_easy_medium_and_hard_images(tmp_path):
    """Easy is below 0.2, medium below 0.8; of two on a medium image one is found."""
    people = random_people(np.random.default_rng(12), skeletons.CROWDPOSE, 4)
    image_ids, crowd_index = (1, 2, 2, 3), {1: 0.19, 2: 0.2, 3: 0.8}
    annotations = [person(i, p, n) for n, (i, p) in enumerate(zip(image_ids, people, strict=True))]
    path = write_truth(tmp_path / "truth.json", annotations, crowd_index=crowd_index)
    results = [detection(1, people[0][:, :2], 0.5), detection(2, people[1][:, :2], 0.6)]
    metrics = evaluate(results, path, skeletons.CROWDPOSE, MOST)
    # Precision 1 up to the recall that is reached, at 101 levels of recall.
    assert metrics == pytest.approx(
        dict.fromkeys(("AP", "AP50", "AP75", "AP_medium"), 51 / 101)
        | dict.fromkeys(("AR", "AR50", "AR75"), 2 / 4)
        | {"AP_easy": 1, "AP_hard": 0}
    )


def test_with_a_crowd_index_areas_are_crowdposes(tmp_path):
    keypoints = random_people(np.random.default_rng(4), skeletons.CROWDPOSE, 1)[0]
    results = [detection(1, keypoints[:, :2] + 5, 0.5)]
    with_area = person(1, keypoints, 1, area=1.0)
    without = {name: value for name, value in with_area.items() if name != "area"}
    scores = [
        evaluate(
            results,
            write_truth(tmp_path / f"{i}.json", [a], crowd_index={1: 0.1}),
            skeletons.CROWDPOSE,
            MOST,
        )
        for i, a in enumerate((with_area, without))
    ]
    assert scores[0] == scores[1] and scores[0]["AP"] > 0
    assert scores[0]["AP_easy"] == scores[0]["AP"]
    assert scores[0]["AP_medium"] == scores[0]["AP_hard"] == -1


def test_people_without_counted_keypoints_are_neither_missed_nor_wrong(tmp_path):
    """CrowdPose does not count head and neck: num_keypoints is read, not recounted."""
    rng = np.random.default_rng(10)
    found, head_only = random_people(rng, skeletons.CROWDPOSE, 2)
    head_only[:, 2], head_only[12:, 2] = 0, 2
    head_only[:, 0] += 400
    annotations = [person(1, found, 1), person(1, head_only, 2, num_keypoints=0)]
    path = write_truth(tmp_path / "truth.json", annotations, crowd_index={1: 0.5})
    results = [detection(1, found[:, :2], 0.5), detection(1, head_only[:, :2], 0.9)]
    for some in (results, results[:1]):
        metrics = evaluate(some, path, skeletons.CROWDPOSE, MOST)
        assert (metrics["AP"], metrics["AR"]) == pytest.approx((1, 1))
    annotations[1]["num_keypoints"] = 2
    path = write_truth(tmp_path / "truth.json", annotations, crowd_index={1: 0.5})
    assert evaluate(results[:1], path, skeletons.CROWDPOSE, MOST)["AR"] == pytest.approx(0.5)


def test_results_are_not_changed(tmp_path):
    keypoints = random_people(np.random.default_rng(5), skeletons.COCO, 1)[0]
    path = write_truth(tmp_path / "truth.json", [person(1, keypoints, 1)])
    results = [detection(1, keypoints[:, :2], 0.5)]
    before = json.dumps(results)
    evaluate(results, path, skeletons.COCO, MOST)
    assert json.dumps(results) == before


def test_wrong_files_and_strange_images_are_named(tmp_path):
    keypoints = random_people(np.random.default_rng(6), skeletons.COCO, 1)[0]
    path = write_truth(tmp_path / "truth.json", [person(1, keypoints, 1)])
    results = [detection(1, keypoints[:, :2], 0.5)]
    with pytest.raises(UserError, match=r"image 9, which '.*truth.json' does not list"):
        evaluate([results[0] | {"image_id": 9}], path, skeletons.COCO, MOST)
    with pytest.raises(UserError, match=r"annotation 1 has 51 numbers .* not 3 x 14: set"):
        evaluate([], path, skeletons.CROWDPOSE, MOST)
    with pytest.raises(UserError, match=r"42 numbers .* not 3 x 17, as the skeleton 'coco'"):
        evaluate([results[0] | {"keypoints": [0.0] * 42}], path, skeletons.COCO, MOST)
    with pytest.raises(UserError, match=r"Cannot read the annotations '.*absent.json'"):
        evaluate([], tmp_path / "absent.json", skeletons.COCO, MOST)
    no_lists = "has no 'images' and 'annotations'"
    for content, words in {
        "{": "is not a complete JSON file",
        "[]": no_lists,
        '{"annotations": [{"id": 1}]}': no_lists,
    }.items():
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UserError, match=f"bad.json' {words}"):
            evaluate([], tmp_path / "bad.json", skeletons.COCO, MOST)


def test_results_hold_the_best_people_in_the_coco_format():
    rng = np.random.default_rng(7)
    people = SimpleNamespace(
        keypoints=rng.uniform(0, 100, (3, 17, 2)).astype(np.float32),
        keypoint_scores=rng.uniform(0, 1, (3, 17)).astype(np.float32),
        scores=np.array([0.2, 0.9, 0.5], np.float32),
    )
    results = coco_results(np.int64(42), people, max_detections=2)
    assert [result["score"] for result in results] == pytest.approx([0.9, 0.5])
    best = np.reshape(results[0]["keypoints"], (17, 3))
    np.testing.assert_array_equal(best[:, :2].astype(np.float32), people.keypoints[1])
    np.testing.assert_array_equal(best[:, 2].astype(np.float32), people.keypoint_scores[1])
    assert json.loads(json.dumps(results))[0]["image_id"] == 42
    assert {result["category_id"] for result in results} == {1}
    assert len(coco_results(1, people)) == 3


def test_results_of_an_empty_image_are_empty():
    empty = SimpleNamespace(
        keypoints=np.zeros((0, 17, 2)), keypoint_scores=np.zeros((0, 17)), scores=np.zeros(0)
    )
    assert coco_results(1, empty) == []


def test_the_table_is_in_percent_and_aligned():
    assert table({"AP": 0.6742, "APM": -1.0, "AR50": 1.0}) == ("AP    APM   AR50\n67.4    -  100.0")


@given(st.floats(0, 1) | st.integers(0, 2000).map(lambda i: i / 2000))
def test_percent_is_the_number_rounded_as_the_coco_tools_print_it(value):
    assert percent(value) == f"{float(f'{value:0.3f}') * 100:.1f}"
    assert percent(value) == f"{round(value, 3) * 100:.1f}"


def test_percent_of_halves():
    # 100 * 0.0125 is 1.25 and would be printed as 1.2, though the float is above the half.
    values = (0.0125, 0.0015, 0.3125, 0.99949, 0.9995, 1.0, 0.0, -1.0)
    assert list(map(percent, values)) == [
        "1.3",
        "0.2",
        "31.2",
        "99.9",
        "100.0",
        "100.0",
        "0.0",
        "-",
    ]


# ---- What is written is what is printed


def test_metrics_json_and_the_printed_table_agree(tmp_path, capsys):
    """Of 80 people one is found: 0.0125, a half in the last digit, and images of no person."""
    rng = np.random.default_rng(13)
    people = random_people(rng, skeletons.CROWDPOSE, 80)
    crowd_index = dict(zip(range(1, 9), (0.1, 0.3, 0.7, 0.8, 1.2, 1.9, 3.02, 0.55), strict=True))
    annotations = [person(1 + n // 16, points, n + 1) for n, points in enumerate(people)]
    path = write_truth(tmp_path / "truth.json", annotations, crowd_index, crowd_index)
    results = [detection(1, people[0][:, :2], 0.5)]
    config = load_config("crowdpose")
    returned = loop.score(config, results, path, tmp_path / "out")

    names, values, _, *lines = capsys.readouterr().out.rstrip("\n").split("\n")
    text = (tmp_path / "out" / "metrics.json").read_text()
    written = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    scores = {name: value for name, value in written.items() if isinstance(value, float)}
    assert scores == returned and scores["AR50"] == 0.0125
    assert names.split() == list(scores)
    assert values.split() == list(map(as_printed, scores.values()))
    assert "1.3" in values.split() and "-" not in values.split()

    blocks = [lines[:3], lines[3:]]
    for key, (heads, aps, persons) in zip(crowding.TITLES, blocks, strict=True):
        levels = written[key]
        assert heads.split()[-len(levels) :] == [
            f"{level['low']}+" if level["high"] is None else f"{level['low']}-{level['high']}"
            for level in levels
        ]
        assert aps.split() == ["AP", *(as_printed(level["AP"]) for level in levels)]
        assert persons.split() == ["persons", *(str(level["persons"]) for level in levels)]
    assert [level["high"] for level in written["by_crowd_index"]] == [0.2, 0.4, 0.6, 0.8, None]
    hard, nobody = written["by_crowd_index"][-1], written["by_crowd_index"][2]
    assert hard["AP"] == written["AP_hard"]
    assert nobody == {"low": 0.4, "high": 0.6, "AP": -1.0, "persons": 0}


def as_printed(value: float) -> str:
    """What a reader of metrics.json makes of a number: three decimals, in percent."""
    return "-" if value == -1 else f"{round(value, 3) * 100:.1f}"
