import json
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.evaluation import coco_results, evaluate, table

MOST = 20  # detections scored an image
DATA = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


def person(image_id: int, keypoints: np.ndarray, number: int, **changes) -> dict:
    """An annotation; keypoints [k, 3]."""
    labelled = keypoints[keypoints[:, 2] > 0, :2]
    corner, size = labelled.min(0), np.ptp(labelled, axis=0)
    annotation = {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": len(labelled),
        "bbox": [*corner.tolist(), *size.tolist()],
        "area": float(size.prod()) / 2,
        "iscrowd": 0,
    }
    return annotation | changes


def write_truth(path: pathlib.Path, annotations: list[dict]) -> pathlib.Path:
    image_ids = {annotation["image_id"] for annotation in annotations}
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 300, "width": 300} for i in image_ids]
    categories = [{"id": 1, "name": "person"}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(truth))
    return path


def detection(image_id: int, points: np.ndarray, score: float) -> dict:
    keypoints = np.concatenate([points, np.full((len(points), 1), score)], -1)
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "score": score,
    }


def random_people(rng, skeleton, count: int) -> list[np.ndarray]:
    """Keypoint arrays [k, 3] of medium and large persons, some keypoints unlabelled."""
    people = []
    for _ in range(count):
        size = rng.uniform(60, 250)
        points = rng.uniform(0, size, (skeleton.num_keypoints, 2))
        visibility = rng.integers(0, 3, skeleton.num_keypoints)
        visibility[:2] = 2
        people.append(np.concatenate([points, visibility[:, None]], -1))
    return people


def slow_average_precision(truths, detections, skeleton, thresholds):
    """AP of persons all counted, image by image and detection by detection."""

    def oks(points, truth):
        total, count = 0.0, 0
        for (x, y), (tx, ty, v), sigma in zip(points, truth[0], skeleton.sigmas, strict=True):
            if v > 0:
                d2 = (x - tx) ** 2 + (y - ty) ** 2
                total += np.exp(-d2 / (2 * (2 * sigma) ** 2 * truth[1]))
                count += 1
        return total / count

    precisions = []
    for threshold in thresholds:
        taken, hits = set(), []
        for image_id, points, _ in sorted(detections, key=lambda d: -d[2]):
            free = [
                (oks(points, truth), i)
                for i, truth in enumerate(truths[image_id])
                if (image_id, i) not in taken
            ]
            best = max(free, default=(0, None))
            hits.append(best[0] >= threshold)
            if hits[-1]:
                taken.add((image_id, best[1]))
        total = sum(map(len, truths.values()))
        found = np.cumsum(hits)
        recall, precision = found / total, found / np.arange(1, len(hits) + 1)
        levels = np.linspace(0, 1, 101)
        precisions += [max(precision[recall >= level], default=0) for level in levels]
    return np.mean(precisions)


@pytest.mark.skipif(not (DATA / "evaluation").is_dir(), reason="the sample data is absent")
def test_scores_of_the_official_example():
    folder = DATA / "evaluation"
    expected = json.loads((folder / "expected.json").read_text())["example_coco"]
    results = json.loads((folder / "example_coco_preds.json").read_text())
    metrics = evaluate(results, folder / "example_coco_val.json", skeletons.COCO, MOST)
    rounded = [round(metrics[name], 4) for name in expected["metrics"]]
    assert rounded == expected["expected_4dp"]


@pytest.mark.parametrize("skeleton", [skeletons.COCO, skeletons.CROWDPOSE], ids=lambda s: s.name)
def test_agrees_with_a_slow_reference(tmp_path, skeleton):
    rng = np.random.default_rng(0)
    truths = {image_id: random_people(rng, skeleton, 3) for image_id in (1, 2, 3)}
    annotations = [
        person(image_id, keypoints, 10 * image_id + i)
        for image_id, people in truths.items()
        for i, keypoints in enumerate(people)
    ]
    detections = [
        (image_id, keypoints[:, :2] + rng.normal(0, noise, (skeleton.num_keypoints, 2)), score)
        for image_id, people in truths.items()
        for keypoints, noise, score in zip(people, (2, 8, 20), rng.uniform(size=3), strict=True)
    ]
    path = write_truth(tmp_path / "truth.json", annotations)
    results = [detection(*d) for d in detections]
    metrics = evaluate(results, path, skeleton, MOST)
    areas = iter(annotations)
    with_areas = {i: [(k, next(areas)["area"]) for k in people] for i, people in truths.items()}
    thresholds = {"AP": np.arange(0.5, 1, 0.05), "AP50": [0.5], "AP75": [0.75]}
    for name, levels in thresholds.items():
        expected = slow_average_precision(with_areas, detections, skeleton, levels)
        assert 0 < expected < 1
        assert metrics[name] == pytest.approx(expected, abs=1e-9)


def test_the_truth_as_detections_scores_one(tmp_path):
    rng = np.random.default_rng(1)
    people = random_people(rng, skeletons.COCO, 6)
    annotations = [person(i // 3, keypoints, i + 1) for i, keypoints in enumerate(people)]
    path = write_truth(tmp_path / "truth.json", annotations)
    results = [detection(i // 3, k[:, :2], 0.5) for i, k in enumerate(people)]
    metrics = evaluate(results, path, skeletons.COCO, MOST)
    assert metrics["AP"] == metrics["AP50"] == metrics["AR"] == pytest.approx(1)
    # A person missed lowers recall; an image left out does not count.
    half = evaluate(results[:3], path, skeletons.COCO, MOST)
    assert half["AR"] == pytest.approx(0.5)
    only = evaluate(results[:3], path, skeletons.COCO, MOST, image_ids=[0])
    assert only["AP"] == only["AR"] == pytest.approx(1)


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
    assert scores[0] == scores[1]


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
    with pytest.raises(UserError, match=r"17 keypoints a person .* 'crowdpose' 14"):
        evaluate([], path, skeletons.CROWDPOSE, MOST)
    with pytest.raises(UserError, match="results are not of the skeleton 'coco'"):
        evaluate([results[0] | {"keypoints": [0.0] * 42}], path, skeletons.COCO, MOST)
    with pytest.raises(UserError, match=r"Cannot read the annotations '.*absent.json'"):
        evaluate([], tmp_path / "absent.json", skeletons.COCO, MOST)
    for content in ("{", "[]", '{"annotations": [{"id": 1}]}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UserError, match=r"bad.json' is not a COCO keypoint"):
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
    assert table({"AP": 0.6742, "APM": -1.0, "AR50": 1.0}) == (
        "   AP    APM   AR50\n 67.4      -  100.0"
    )
