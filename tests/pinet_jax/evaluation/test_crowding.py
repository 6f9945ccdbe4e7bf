import dataclasses
import json
import math

import cv2
import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.evaluation import crowding
from pinet_jax.evaluation.coco_annotations import counts
from pinet_jax.evaluation.crowding import Level, by_box_iou, by_crowd_index
from pinet_jax.evaluation.scoring import Scorer, match
from tests.pinet_jax.evaluation.scoring_cases import (
    MOST,
    detection,
    person,
    perturbed_crowd,
    random_people,
    slow_average_precision,
    truth_as_results,
    write_truth,
)

EDGES = (0.0, 0.3, 0.5, 0.7, 1.0)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Annotations, results, and the scorer of both; images with a crowdIndex."""
    rng = np.random.default_rng(3)
    annotations, results = perturbed_crowd(rng, skeletons.COCO, 12)
    for annotation in annotations:  # as CrowdPose has it
        annotation["area"] = 0.53 * annotation["bbox"][2] * annotation["bbox"][3]
    crowd_index = {i: (i - 1) / 11 for i in range(1, 13)}
    path = tmp_path_factory.mktemp("crowd") / "truth.json"
    write_truth(path, annotations, crowd_index, crowd_index)
    return annotations, results, match(results, path, skeletons.COCO, MOST)


def test_by_box_iou_agrees_with_a_slow_reference(crowd):
    annotations, results, scorer = crowd
    box_iou = scorer.truth.box_iou()  # the annotations' ids count from 1, too
    assert set(box_iou) == {a["id"] for a in annotations if counts(a)}
    levels = by_box_iou(scorer, EDGES)
    assert sum(level.persons for level in levels) == len(box_iou)
    for low, high, level in zip(EDGES, EDGES[1:], levels, strict=False):
        inside = {
            number
            for number, iou in box_iou.items()
            if low <= iou < high or iou == high == EDGES[-1]
        }
        assert (level.low, level.high, level.persons) == (low, high, len(inside))
        assert level.persons
        images = {a["image_id"] for a in annotations if a["id"] in inside}
        expected = slow_average_precision(
            [a for a in annotations if a["image_id"] in images],
            [r for r in results if r["image_id"] in images],
            skeletons.COCO,
            counted=lambda a, inside=inside: a["id"] in inside,
        )
        assert level.ap == pytest.approx(expected, abs=1e-9)


def test_all_persons_in_one_interval_are_the_plain_ap(crowd):
    *_, scorer = crowd
    (level,) = by_box_iou(scorer, (0.0, 1.0))
    images = {p["image_id"] for p in scorer.truth.persons if counts(p)}
    assert level.ap == pytest.approx(scorer.scores(["AP"], images)["AP"], abs=1e-12)
    # Scoring one interval leaves the scorer as it was.
    before = scorer.scores(["AP", "AR"])
    by_box_iou(scorer, EDGES)
    assert scorer.scores(["AP", "AR"]) == before


def test_false_detections_elsewhere_do_not_count(tmp_path):
    people = random_people(np.random.default_rng(1), skeletons.COCO, 3)
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [50, 0, 10, 10]]
    annotations = [
        boxed(image_id, keypoints, n, box)
        for n, (image_id, keypoints, box) in enumerate(zip((1, 1, 2), people, boxes, strict=True))
    ]
    path = write_truth(tmp_path / "truth.json", annotations)
    elsewhere = detection(2, people[2][:, :2] - 5000, 2.0)
    scorer = match([*truth_as_results(path), elsewhere], path, skeletons.COCO, MOST)
    alone, crowded = by_box_iou(scorer, (0.0, 0.5, 1.0))
    assert (alone.ap, crowded.ap) == pytest.approx((0.5, 1))


def boxed(image_id, keypoints, number, box):
    return person(image_id, keypoints, number, bbox=box, area=900.0)


def test_who_matches_a_person_of_another_interval_is_neither_right_nor_wrong(tmp_path):
    people = random_people(np.random.default_rng(0), skeletons.COCO, 4)
    for i, keypoints in enumerate(people):
        keypoints[:, :2] += 1000 * i  # far apart: boxes alone say who is crowded
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [50, 0, 10, 10], [50, 0, 10, 20]]
    annotations = [boxed(1, *case) for case in zip(people, range(1, 5), boxes, strict=True)]
    path = write_truth(tmp_path / "truth.json", annotations)

    def aps(results):
        scorer = match(results, path, skeletons.COCO, MOST)
        return [(level.ap, level.persons) for level in by_box_iou(scorer, (0.0, 0.5, 0.9, 1.0))]

    everybody = truth_as_results(path)
    # IoU 1/2 lies in the second interval, IoU 1 in the last, which is closed.
    assert aps(everybody) == [(-1, 0), (pytest.approx(1), 2), (pytest.approx(1), 2)]
    assert aps(everybody[:2]) == [(-1, 0), (0, 2), (pytest.approx(1), 2)]
    # A detection of nobody, the best of all, is wrong in every interval of its image.
    nobody = detection(1, people[0][:, :2] - 5000, 2.0)
    with_one_wrong = (pytest.approx(2 / 3), 2)  # after it, precision rises to 2 of 3
    assert aps([*everybody, nobody]) == [(-1, 0), with_one_wrong, with_one_wrong]


def test_by_crowd_index(crowd):
    _, _, scorer = crowd
    edges = (0.0, 0.5, 1.0)
    images = [set(range(1, 7)), set(range(7, 13))]
    for level, kept in zip(by_crowd_index(scorer, edges), images, strict=True):
        assert level.ap == scorer.scores(["AP"], kept)["AP"]
        people = [p for p in scorer.truth.persons if p["image_id"] in kept and counts(p)]
        assert level.persons == len(people) > 0
    assert by_crowd_index(scorer, (0.951, 0.99))[0] == Level(0.951, 0.99, -1.0, 0)
    (everything,) = by_crowd_index(scorer, (0.0, math.inf))
    assert everything.ap == scorer.scores(["AP"])["AP"]


def test_levels_are_those_that_the_data_has(crowd):
    _, results, scorer = crowd
    both = crowding.levels(scorer, EDGES)
    assert list(both) == ["by_box_iou", "by_crowd_index"] == list(crowding.TITLES)
    truth = dataclasses.replace(scorer.truth, crowd_index=None)
    scorer = Scorer(results, truth, skeletons.COCO, MOST)
    assert list(crowding.levels(scorer, EDGES)) == ["by_box_iou"]
    assert crowding.as_json(both)["by_box_iou"][0].keys() == {"low", "high", "AP", "persons"}


@pytest.mark.parametrize("edges", [(), (0.5,), (0.5, 0.5), (0.6, 0.5)])
def test_edges_must_rise(crowd, edges):
    with pytest.raises(UserError, match=r"config.eval.iou_intervals: .* rising"):
        by_box_iou(crowd[2], edges)


FOUND = {
    "by_box_iou": [Level(0.5, 0.6, 0.4567, 12), Level(0.6, 1, -1, 0)],
    "by_crowd_index": [Level(0, 0.8, 1.0, 1), Level(0.8, math.inf, 0.25, 3)],
}


def test_the_table():
    assert crowding.table(FOUND).splitlines() == [
        "box IoU with the nearest  0.5-0.6  0.6-1.0",
        "AP                           45.7        -",
        "persons                        12        0",
        "crowdIndex of the image  0.0-0.8  0.8+",
        "AP                         100.0  25.0",
        "persons                        1     3",
    ]


def test_an_open_interval_is_null_in_json():
    written = json.dumps(crowding.as_json(FOUND), allow_nan=False)
    low, high = json.loads(written)["by_crowd_index"]
    assert low == {"low": 0, "high": 0.8, "AP": 1.0, "persons": 1}
    assert high == {"low": 0.8, "high": None, "AP": 0.25, "persons": 3}


def test_the_plot_is_a_picture_with_bars(tmp_path):
    path = tmp_path / "crowding.png"
    crowding.plot(FOUND, path)
    image = cv2.imread(str(path)).astype(int)
    assert image.shape[0] > 200 and image.shape[1] > 2 * image.shape[0]
    blue = (image[..., 0] > image[..., 2] + 60).sum(axis=0)
    left, right = np.array_split(blue, 2)
    # The bar of AP 100 is about twice as high as that of AP 46.
    assert right.max() == pytest.approx(left.max() / 0.4567, rel=0.1)
    with pytest.raises(UserError, match="Cannot write"):
        crowding.plot(FOUND, tmp_path / "absent" / "crowding.png")
