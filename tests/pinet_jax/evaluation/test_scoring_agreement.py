"""Scores agree: with official examples, a slow reference and a second evaluator."""

import itertools
import json

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from pinet_jax import skeletons
from pinet_jax.evaluation import crowding
from pinet_jax.evaluation.coco_annotations import counts
from pinet_jax.evaluation.scoring import match, metrics
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


def test_the_order_of_people_and_results_does_not_matter(crowd, tmp_path):
    path, results, skeleton = crowd
    before = evaluate(results, path, skeleton, MOST)
    rng = np.random.default_rng(0)
    truth = json.loads(path.read_text())
    for entries in (truth["images"], truth["annotations"], results):
        rng.shuffle(entries)
    path.write_text(json.dumps(truth))
    assert evaluate(results, path, skeleton, MOST) == pytest.approx(before, abs=1e-12)


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

    levels = crowding.levels(scorer, (0.0, 1.0))["by_crowd_index"]
    edges = (0, 0.2, 0.4, 0.6, 0.8, 4)
    assert [level.ap for level in levels] == pytest.approx(
        [ap_between(*ends) for ends in itertools.pairwise(edges)], abs=1e-9
    )
    assert (levels[0].ap, levels[-1].ap) == (found["AP_easy"], found["AP_hard"])
    assert sum(level.persons for level in levels) == sum(map(counts, scorer.truth.persons))
    assert levels[-1].persons > sum(level.persons for level in levels[:-1])
    printed = crowding.table({"by_crowd_index": levels})
    assert "0.6-0.8  0.8+\n" in printed and "inf" not in printed
