import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from hypothesis import given
from hypothesis import strategies as st

from pinet_jax import skeletons
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.evaluation import crowding as crowd_levels
from pinet_jax.evaluation import loop as eval_loop
from pinet_jax.evaluation.coco_annotations import counts
from pinet_jax.evaluation.results import coco_results
from pinet_jax.evaluation.scoring import match, metrics, percent, table
from tests.paths import DATA
from tests.pinet_jax.evaluation import annotation_cases as cases
from tests.pinet_jax.evaluation.scoring_cases import (
    MOST,
    OKS_LEVELS,
    detection,
    evaluate,
    person,
    perturbed_crowd,
    random_people,
    slow_average_precision,
    truth_as_results,
    write_truth,
)

SKELETONS = pytest.mark.parametrize(
    "skeleton", [skeletons.COCO, skeletons.CROWDPOSE], ids=lambda s: s.name
)


# ---- Agreement with others


@pytest.mark.skipif(not (DATA / "evaluation").is_dir(), reason="the sample data is absent")
@SKELETONS
def test_scores_of_the_official_examples(skeleton):
    case = f"example_{skeleton.name}"
    folder = DATA / "evaluation"
    expected = json.loads((folder / "expected.json").read_text())[case]
    results = json.loads((folder / f"{case}_preds.json").read_text())
    metrics = evaluate(results, folder / f"{case}_val.json", skeleton, MOST)
    assert set(metrics) == set(expected["metrics"])
    rounded = [round(metrics[name], 4) for name in expected["metrics"]]
    assert rounded == expected["expected_4dp"]


@SKELETONS
def test_agrees_with_a_slow_reference(tmp_path, skeleton):
    rng = np.random.default_rng(0)
    people = random_people(rng, skeleton, 9)
    annotations = [person(i // 3, keypoints, i + 1) for i, keypoints in enumerate(people)]
    noise = [rng.normal(0, (2, 8, 20)[i % 3], (skeleton.num_keypoints, 2)) for i in range(9)]
    results = [
        detection(i // 3, keypoints[:, :2] + noise[i], rng.uniform())
        for i, keypoints in enumerate(people)
    ]
    metrics = evaluate(results, write_truth(tmp_path / "truth.json", annotations), skeleton, MOST)
    for name, levels in {"AP": OKS_LEVELS, "AP50": [0.5], "AP75": [0.75]}.items():
        expected = slow_average_precision(annotations, results, skeleton, levels)
        assert 0 < expected < 1
        assert metrics[name] == pytest.approx(expected, abs=1e-9)


@pytest.fixture(params=["coco", "crowdpose"])
def crowd(request, tmp_path):
    """Path of a ground truth, results with everything that can happen, skeleton."""
    rng = np.random.default_rng(11)
    skeleton = skeletons.get(request.param)
    annotations, results = perturbed_crowd(rng, skeleton, 40)
    image_ids = range(1, 41)
    crowd_index = None
    if request.param == "crowdpose":
        crowd_index = dict(zip(image_ids, rng.uniform(0, 1, 40).tolist(), strict=True))
        annotations = [{n: v for n, v in a.items() if n != "area"} for a in annotations]
    path = write_truth(tmp_path / "truth.json", annotations, image_ids, crowd_index)
    return path, results, skeleton


def second_opinion(path, results, skeleton, image_ids=None):
    """faster-coco-eval's precisions and recalls [threshold, (level), size]."""
    is_coco = skeleton.name == "coco"
    truth = COCO(json.loads(path.read_text()))
    scorer = COCOeval_faster(
        truth,
        truth.loadRes([dict(result) for result in results]),
        "keypoints" if is_coco else "keypoints_crowd",
        print_function=lambda *_: None,
        kpt_oks_sigmas=skeleton.sigmas,
        use_area=is_coco,
    )
    scorer.params.maxDets = [MOST]
    if image_ids is not None:
        scorer.params.imgIds = image_ids
    scorer.evaluate()
    scorer.accumulate()
    return scorer.eval["precision"][:, :, 0, :, 0], scorer.eval["recall"][:, 0, :, 0]


def test_two_evaluators_agree(crowd):
    path, results, skeleton = crowd
    precision, recall = second_opinion(path, results, skeleton)
    expected = {}
    for name, values in {"AP": precision, "AR": recall}.items():
        expected[name] = values[..., 0].mean()
        expected[f"{name}50"] = values[0, ..., 0].mean()
        expected[f"{name}75"] = values[5, ..., 0].mean()
        if skeleton.name == "coco":
            expected[f"{name}M"] = values[..., 1].mean()
            expected[f"{name}L"] = values[..., 2].mean()
    if skeleton.name == "crowdpose":
        index = {i["id"]: i["crowdIndex"] for i in json.loads(path.read_text())["images"]}
        levels = {"easy": (0, 0.2), "medium": (0.2, 0.8), "hard": (0.8, 2)}
        for name, (low, high) in levels.items():
            image_ids = [i for i, value in index.items() if low <= value < high]
            part, _ = second_opinion(path, results, skeleton, image_ids)
            expected[f"AP_{name}"] = part[..., 0].mean()
    metrics = evaluate(results, path, skeleton, MOST)
    assert 0.05 < metrics["AP"] < 0.95
    assert metrics == pytest.approx(expected, abs=1e-9)


# ---- Properties


def test_the_order_of_people_and_results_does_not_matter(crowd, tmp_path):
    path, results, skeleton = crowd
    before = evaluate(results, path, skeleton, MOST)
    rng = np.random.default_rng(0)
    truth = json.loads(path.read_text())
    for entries in (truth["images"], truth["annotations"], results):
        rng.shuffle(entries)
    path.write_text(json.dumps(truth))
    assert evaluate(results, path, skeleton, MOST) == pytest.approx(before, abs=1e-12)


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


# ---- What official files hold


@pytest.mark.parametrize("quirk", cases.QUIRKS)
def test_a_quirk_of_the_file_does_not_change_a_score(tmp_path, quirk):
    plain = cases.write(tmp_path / "plain.json")
    path = cases.write(tmp_path / "truth.json", cases.QUIRKS[quirk])
    expected = evaluate(cases.results(), plain, skeletons.COCO, MOST)
    assert 0 < expected["AP"] < 1
    assert evaluate(cases.results(), path, skeletons.COCO, MOST) == expected


@pytest.mark.parametrize("oddity", cases.ODDITIES)
def test_what_is_odd_scores_as_the_second_evaluator_has_it(tmp_path, oddity):
    path = cases.write(tmp_path / "truth.json", cases.ODDITIES[oddity])
    precision, recall = second_opinion(path, cases.results(), skeletons.COCO)
    metrics = evaluate(cases.results(), path, skeletons.COCO, MOST)
    assert 0 < metrics["AP"] < 1
    assert metrics["AP"] == pytest.approx(precision[..., 0].mean(), abs=1e-9)
    assert metrics["AR"] == pytest.approx(recall[..., 0].mean(), abs=1e-9)


# In steps of 0.1 up to 3, as sums of floats: 0.30000000000000004, 0.7999999999999999 ...
NOISY_CROWD_INDEX = np.cumsum([0.0, *[0.1] * 30]).tolist()


def test_crowdpose_images_above_crowd_index_1_are_hard_ones(tmp_path):
    """Official files go up to 3.02; every number beside the second evaluator's."""
    assert 0.7999999999999999 in NOISY_CROWD_INDEX and max(NOISY_CROWD_INDEX) > 2.9
    skeleton = skeletons.CROWDPOSE
    annotations, results = perturbed_crowd(np.random.default_rng(5), skeleton, 62)
    for annotation in annotations:
        del annotation["area"]  # as CrowdPose has it
    index = dict(enumerate(2 * NOISY_CROWD_INDEX, start=1))
    path = write_truth(tmp_path / "truth.json", annotations, index, index)
    scorer = match(results, path, skeleton, MOST)

    precision, recall = second_opinion(path, results, skeleton)
    expected = {}
    for name, values in {"AP": precision, "AR": recall}.items():
        thresholds = {"": values, "50": values[:1], "75": values[5:6]}
        expected |= {name + at: part[..., 0].mean() for at, part in thresholds.items()}

    def ap_between(low, high):
        images = [i for i, value in index.items() if low <= value < high]
        return second_opinion(path, results, skeleton, images)[0][..., 0].mean()

    expected["AP_easy"] = ap_between(0, 0.2)
    expected["AP_medium"] = ap_between(0.2, 0.8)
    expected["AP_hard"] = ap_between(0.8, 4)
    found = metrics(scorer)
    assert found == pytest.approx(expected, abs=1e-9)
    assert min(found.values()) > 0.05

    levels = crowd_levels.levels(scorer, (0.0, 1.0))["by_crowd_index"]
    edges = (0, 0.2, 0.4, 0.6, 0.8, 4)
    assert [level.ap for level in levels] == pytest.approx(
        [ap_between(*ends) for ends in itertools.pairwise(edges)], abs=1e-9
    )
    assert (levels[0].ap, levels[-1].ap) == (found["AP_easy"], found["AP_hard"])
    assert sum(level.persons for level in levels) == sum(map(counts, scorer.truth.persons))
    assert levels[-1].persons > sum(level.persons for level in levels[:-1])
    printed = crowd_levels.table({"by_crowd_index": levels})
    assert "0.6-0.8  0.8+\n" in printed and "inf" not in printed


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
    returned = eval_loop.score(config, results, path, tmp_path / "out")

    names, values, _, *crowding = capsys.readouterr().out.rstrip("\n").split("\n")
    text = (tmp_path / "out" / "metrics.json").read_text()
    written = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    scores = {name: value for name, value in written.items() if isinstance(value, float)}
    assert scores == returned and scores["AR50"] == 0.0125
    assert names.split() == list(scores)
    assert values.split() == list(map(as_printed, scores.values()))
    assert "1.3" in values.split() and "-" not in values.split()

    blocks = [crowding[:3], crowding[3:]]
    for key, (heads, aps, persons) in zip(crowd_levels.TITLES, blocks, strict=True):
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
