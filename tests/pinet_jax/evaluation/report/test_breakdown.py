"""Every kind of error by hand, and all of them beside a slow, obvious reference."""

import math

import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.evaluation.coco_annotations import counts
from pinet_jax.evaluation.report.breakdown import (
    DETECTION_KINDS,
    IGNORED,
    KEYPOINT_KINDS,
    PERSON_KINDS,
    break_down,
    keypoint_kinds,
    outcome,
)
from pinet_jax.evaluation.scoring import match
from tests.pinet_jax.evaluation.scoring_cases import (
    MOST,
    detection,
    person,
    perturbed_crowd,
    write_truth,
)

COCO = skeletons.COCO
LEFT_WRIST, RIGHT_WRIST, NOSE = 9, 10, 0
SIDE = 200.0  # of a person's area, pixels


def somebody(x=0.0, y=0.0):
    """A person [17, 3] whose keypoints are too far apart to be mistaken for each other."""
    column, row = np.arange(17) % 5, np.arange(17) // 5
    return np.stack([x + 100.0 * column, y + 100.0 * row, np.full(17, 2)], -1)


def annotated(keypoints, number=1, **changes):
    return person(1, keypoints, number, area=SIDE**2, **changes)


def distance(similarity, keypoint):
    """From a keypoint, where its similarity is this."""
    return SIDE * 2 * COCO.sigmas[keypoint] * math.sqrt(-2 * math.log(similarity))


def outcomes(tmp_path, annotations, results, **settings):
    path = write_truth(tmp_path / "truth.json", annotations, {r["image_id"] for r in results})
    images = match(results, path, COCO, MOST).images(0.5)
    return [outcome(image, COCO, **settings) for image in images]


# ---- Persons and detections by hand


def shifted(keypoints, oks):
    """Points whose OKS with a person is about this: so many keypoints right, the rest far off."""
    points = keypoints[:, :2].copy()
    points[round(17 * oks) :] += 5000
    return points


def test_one_of_each_kind_of_detection_and_person(tmp_path):
    a, b, c, ignored = (somebody(10_000 * i) for i in range(4))
    annotations = [
        annotated(a, 1),
        annotated(b, 2),
        annotated(c, 3),
        annotated(ignored, 4, num_keypoints=0),
    ]
    results = [
        detection(1, a[:, :2], 0.9),  # right
        detection(1, shifted(a, 0.8), 0.8),  # found by a better one
        detection(1, shifted(a, 0.3), 0.7),  # likewise, below OKS 0.5
        detection(1, shifted(b, 0.3), 0.6),  # b is there, but not found
        detection(1, shifted(b, 0.4), 0.5),  # b has a better detection, by score
        detection(1, a[:, :2] - 70_000, 0.4),  # nobody
        detection(1, shifted(a, 0.05), 0.3),  # one keypoint is not somebody
        detection(1, ignored[:, :2], 0.2),
    ]
    (found,) = outcomes(tmp_path, annotations, results)
    assert found.detections == (
        *("right", "duplicate", "duplicate", "poor", "duplicate", "false", "false"),
        IGNORED,
    )
    assert found.persons == ("found", "poor", "missed")
    assert found.oks == pytest.approx([1, 5 / 17])
    assert found.errors == 2 + 6  # persons not found, detections not right
    total = break_down([found, found], 17)
    assert dict(zip(PERSON_KINDS, total.persons, strict=True)) == dict(found=2, poor=2, missed=2)
    assert total.detections == (2, 2, 6, 4)  # the ignored one is left out
    assert DETECTION_KINDS == ("right", "poor", "duplicate", "false")
    # All of a are good, five of b, the others of b are nowhere.
    assert total.keypoints.sum(0).tolist() == [2 * (17 + 5), 0, 0, 0, 2 * 12]


def test_a_later_match_makes_an_earlier_detection_a_duplicate(tmp_path):
    """Who is nearest by OKS below 0.5 does not take the person from who finds it."""
    a = somebody()
    results = [detection(1, shifted(a, 0.3), 0.9), detection(1, a[:, :2], 0.1)]
    (found,) = outcomes(tmp_path, [annotated(a)], results)
    assert found.detections == ("duplicate", "right") and found.persons == ("found",)


def test_detections_of_a_low_score_can_be_left_out(tmp_path):
    a, b = somebody(), somebody(10_000)
    results = [detection(1, p[:, :2], score) for p, score in ((a, 0.9), (b, 0.19), (b, 0.1))]
    annotations = [annotated(a, 1), annotated(b, 2)]
    (found,) = outcomes(tmp_path, annotations, results)
    assert found.detections == ("right", "right", "duplicate") and found.errors == 1
    (found,) = outcomes(tmp_path, annotations, results, min_score=0.2)
    assert found.detections == ("right",) and found.persons == ("found", "missed")
    assert found.scores.tolist() == [0.9] and found.errors == 1


def test_nobody_and_nothing(tmp_path):
    (nothing,) = outcomes(tmp_path, [annotated(somebody())], [])
    assert (nothing.detections, nothing.persons, nothing.errors) == ((), ("missed",), 1)
    crowd = annotated(somebody(), iscrowd=1)
    (alone,) = outcomes(tmp_path, [crowd], [detection(1, somebody(90_000)[:, :2], 1)])
    assert (alone.detections, alone.persons, alone.errors) == (("false",), (), 1)
    assert break_down([], 17).keypoints.tolist() == [[0] * 5] * 17


# ---- Keypoints by hand


def kinds_of(points, *people):
    return keypoint_kinds(points, 0, [annotated(p) for p in people], COCO)


@pytest.mark.parametrize(
    ("similarity", "kind"),
    [(1.0, "good"), (0.86, "good"), (0.84, "jitter"), (0.51, "jitter"), (0.49, "missed")],
)
@pytest.mark.parametrize("keypoint", [NOSE, LEFT_WRIST])
def test_how_far_off_a_keypoint_is(keypoint, similarity, kind):
    points = somebody()[:, :2]
    points[keypoint, 0] += distance(similarity, keypoint)
    expected = ["good"] * 17
    expected[keypoint] = kind
    assert kinds_of(points, somebody()) == expected


def test_keypoints_of_the_other_side_are_inverted():
    points = somebody()[:, :2]
    points[[LEFT_WRIST, RIGHT_WRIST]] = points[[RIGHT_WRIST, LEFT_WRIST]]
    kinds = kinds_of(points, somebody())
    assert [k for k in range(17) if kinds[k] == "inverted"] == [LEFT_WRIST, RIGHT_WRIST]
    assert kinds.count("good") == 15
    # The nose has no other side: on the left eye it is nowhere.
    points = somebody()[:, :2]
    points[NOSE] = points[1]
    assert kinds_of(points, somebody())[NOSE] == "missed"


@pytest.mark.parametrize("theirs", [LEFT_WRIST, RIGHT_WRIST])
def test_keypoints_of_somebody_else_are_swapped(theirs):
    a, b = somebody(), somebody(10_000)
    points = a[:, :2].copy()
    points[LEFT_WRIST] = b[theirs, :2] + distance(0.6, theirs) * np.array([1, 0])
    expected = ["good"] * 17
    expected[LEFT_WRIST] = "swapped"
    assert kinds_of(points, a, b) == expected
    b[theirs, 2] = 0  # without a label nobody knows
    expected[LEFT_WRIST] = "missed"
    assert kinds_of(points, a, b) == expected


def test_another_keypoint_of_somebody_else_is_missed():
    a, b = somebody(), somebody(10_000)
    points = a[:, :2].copy()
    points[LEFT_WRIST] = b[NOSE, :2]
    assert kinds_of(points, a, b)[LEFT_WRIST] == "missed"


@pytest.mark.parametrize(("offset", "kind"), [(1.0, "inverted"), (-1.0, "swapped")])
def test_of_inverted_and_swapped_the_nearer_one_counts(offset, kind):
    a, b = somebody(), somebody(10_000)
    b[LEFT_WRIST] = a[RIGHT_WRIST] + [4, 0, 0]
    points = a[:, :2].copy()
    points[LEFT_WRIST] = a[RIGHT_WRIST, :2] + [2 - offset, 0]
    assert kinds_of(points, a, b)[LEFT_WRIST] == kind


def test_what_is_near_its_own_place_is_never_somebody_elses():
    a, b = somebody(), somebody()
    points = a[:, :2].copy()
    points[LEFT_WRIST, 0] += distance(0.6, LEFT_WRIST)
    b[LEFT_WRIST, :2] = points[LEFT_WRIST]
    assert kinds_of(points, a, b)[LEFT_WRIST] == "jitter"


def test_keypoints_without_a_label_are_of_no_kind():
    a = somebody()
    a[NOSE, 2] = 0
    assert kinds_of(somebody()[:, :2], a) == ["", *["good"] * 16]


# ---- Everything beside a slow reference


def slow_similarity(point, truth, keypoint):
    """Of a point to one keypoint of an annotation; 0 without a label."""
    x, y, label = truth["keypoints"][3 * keypoint : 3 * keypoint + 3]
    if label == 0:
        return 0.0
    distance2 = (point[0] - x) ** 2 + (point[1] - y) ** 2
    return math.exp(-distance2 / (2 * truth["area"] * (2 * COCO.sigmas[keypoint]) ** 2))


def slow_keypoint_kind(result, truth, others, keypoint):
    if truth["keypoints"][3 * keypoint + 2] == 0:
        return None
    point = result["keypoints"][3 * keypoint : 3 * keypoint + 2]
    mirror = COCO.flip_order[keypoint]
    own = slow_similarity(point, truth, keypoint)
    inverted = slow_similarity(point, truth, mirror) if mirror != keypoint else 0
    swapped = [slow_similarity(point, other, k) for other in others for k in (keypoint, mirror)]
    if own >= 0.5:
        return "good" if own >= 0.85 else "jitter"
    if max([inverted, *swapped]) < 0.5:
        return "missed"
    return "inverted" if inverted >= max(swapped, default=0) else "swapped"


def slow_oks(result, truth):
    labelled = [k for k in range(17) if truth["keypoints"][3 * k + 2] > 0]
    parts = [slow_similarity(result["keypoints"][3 * k : 3 * k + 2], truth, k) for k in labelled]
    return sum(parts) / len(parts)


def slow_breakdown(annotations, results):
    """Names of persons, detections and (keypoint, kind) of one image; any order."""
    results = sorted(results, key=lambda result: -result["score"])[:MOST]
    matched = {}  # detection number -> person id
    for number, result in enumerate(results):
        free = [t for t in annotations if t["iscrowd"] or t["id"] not in matched.values()]
        near = [t for t in free if slow_oks(result, t) >= 0.5]
        if near:
            best = max(near, key=lambda t: (counts(t), slow_oks(result, t)))
            matched[number] = best["id"]
    persons = {t["id"]: "missed" for t in annotations if counts(t)}
    persons |= {number: "found" for number in matched.values() if number in persons}
    detections, keypoints = [], []
    for number, result in enumerate(results):
        candidates = [t for t in annotations if counts(t)]
        nearest = max(candidates, key=lambda t: slow_oks(result, t), default=None)
        if number in matched:
            nearest = next(t for t in annotations if t["id"] == matched[number])
            kind = "right" if counts(nearest) else IGNORED
        elif nearest is None or slow_oks(result, nearest) < 0.1:
            kind = "false"
        elif persons[nearest["id"]] == "missed":
            kind = persons[nearest["id"]] = "poor"
        else:
            kind = "duplicate"
        detections.append(kind)
        if kind in ("right", "poor"):
            others = [t for t in annotations if t is not nearest]
            kinds = [slow_keypoint_kind(result, nearest, others, k) for k in range(17)]
            keypoints += [(k, kind) for k, kind in enumerate(kinds) if kind]
    return list(persons.values()), detections, keypoints


def test_agrees_with_the_slow_reference(tmp_path):
    rng = np.random.default_rng(11)
    annotations, results = perturbed_crowd(rng, COCO, 40)
    for result in results[::4]:  # some are mirrored, some mixed of two persons
        points = np.reshape(result["keypoints"], (17, 3))[list(COCO.flip_order)]
        result["keypoints"] = points.ravel().tolist()
    for result in results[1::4]:
        others = [a for a in annotations if a["image_id"] == result["image_id"]]
        if others:
            points = np.reshape(result["keypoints"], (17, 3))
            points[::3, :2] = np.reshape(others[0]["keypoints"], (17, 3))[::3, :2]
            result["keypoints"] = points.ravel().tolist()
    seen = set()
    for found in outcomes(tmp_path, annotations, results):
        expected = slow_breakdown(
            [a for a in annotations if a["image_id"] == found.image_id],
            [r for r in results if r["image_id"] == found.image_id],
        )
        assert list(found.persons) == expected[0]
        assert list(found.detections) == expected[1]
        counted = np.zeros((17, 5), int)
        for keypoint, kind in expected[2]:
            counted[keypoint, KEYPOINT_KINDS.index(kind)] += 1
        np.testing.assert_array_equal(found.keypoints, counted)
        seen |= {*expected[0], *expected[1], *(f"{kind} keypoint" for _, kind in expected[2])}
    every = {*PERSON_KINDS, *DETECTION_KINDS, IGNORED}
    assert seen == every | {f"{kind} keypoint" for kind in KEYPOINT_KINDS}
