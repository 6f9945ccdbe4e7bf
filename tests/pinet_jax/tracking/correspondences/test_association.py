"""Steps 4 and 5 of section 3 against loops that follow the text."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinet_jax.config import load_config
from pinet_jax.skeletons import COCO
from pinet_jax.tracking.correspondences import association
from pinet_jax.tracking.frames import Detections

CONFIG = load_config("coco").tracking
SIGMAS = COCO.sigmas


def frame(seed, tracks=4, people=6):
    """A scene in which most tracks have a detection near and some have two."""
    rng = np.random.default_rng(seed)
    warped = rng.uniform(60, 450, (tracks, 1, 2)) + rng.normal(0, 40, (tracks, 17, 2))
    owner = rng.integers(0, tracks, people)
    joints = warped[owner] + rng.normal(0, rng.choice([2, 10, 60]), (people, 17, 2))
    scores = rng.uniform(0, 1, (people, 17))
    scores[rng.random(people) < 0.1] = 0
    reads = rng.uniform(0, 0.4, (tracks, people, 17))
    reads[owner, np.arange(people)] += rng.uniform(0, 0.6)
    found = rng.uniform(0, 1, (tracks, 17)) * (rng.random((tracks, 17)) < 0.8)
    return warped, found, Detections(joints, scores), reads


def slow_scores(warped, found, people, reads):
    tracks, count = reads.shape[:2]
    box, pose, read, mean = np.zeros((4, tracks, count))
    for q in range(tracks):
        there = [j for j in range(17) if found[q, j] >= 0.3]
        for p in range(count):
            valid = [j for j in range(17) if people.keypoint_scores[p, j] >= 0.1]
            if len(valid) < 2:
                continue
            points = people.keypoints[p][valid]
            low = np.clip(points.min(0) - 10, 0, 512)
            high = np.clip(points.max(0) + 10, 0, 512)
            inside = [
                j for j in there if (warped[q, j] >= low).all() and (warped[q, j] <= high).all()
            ]
            if len(inside) >= 2:
                box[q, p] = np.mean([found[q, j] for j in inside])
            both = [j for j in there if j in valid]
            if both:
                distance2 = ((warped[q][both] - people.keypoints[p][both]) ** 2).sum(1)
                variance = (2 * np.array(SIGMAS)[both]) ** 2
                pose[q, p] = np.exp(-distance2 / 2 / variance / (high - low).prod()).mean()
            counted = [reads[q, p, j] for j in valid if reads[q, p, j] > 0.3]
            read[q, p] = sum(counted)
            mean[q, p] = sum(counted) / max(len(counted), 1)
    return association.Scores(box, pose, read, mean)


def slow_links(scores):
    tracks, count = scores.box.shape
    proposals = {}
    for q in range(tracks):
        near = [p for p in range(count) if scores.box[q, p] > 0.3]
        if not near:
            continue
        best = max(near, key=lambda p: scores.pose[q, p] + scores.mean_read[q, p])
        if scores.pose[q, best] > 0.2 and scores.read[q, best] > 0.6:
            value = scores.pose[q, best] + scores.mean_read[q, best]
            proposals.setdefault(best, []).append((value, q))
    detection_of = [-1] * tracks
    for p, offers in proposals.items():
        detection_of[max(offers)[1]] = p
    duplicate = [False] * count
    for q, own in enumerate(detection_of):
        for p in range(count):
            if own < 0 or p in detection_of:
                continue
            votes = (scores.box[q, p] > 0) + (scores.read[q, p] > 0) + (scores.pose[q, p] > 0.2)
            pose = [scores.pose[q, x] if scores.box[q, x] > 0.3 else 0 for x in (p, own)]
            ratio = pose[0] / pose[1] if pose[1] else 0
            ratio += scores.read[q, p] / scores.read[q, own] if scores.read[q, own] else 0
            duplicate[p] |= bool(votes and ratio > 0.6)
    return detection_of, duplicate


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 7))
def test_the_fast_steps_are_the_slow_ones(seed, tracks, people):
    warped, found, detections, reads = frame(seed, tracks, people) if tracks else _nobody(people)
    scores = association.score(warped, found, detections, reads, SIGMAS, CONFIG)
    slow = slow_scores(warped, found, detections, reads)
    for field in dataclasses.fields(slow):
        fast_values, slow_values = getattr(scores, field.name), getattr(slow, field.name)
        np.testing.assert_allclose(fast_values, slow_values, rtol=1e-9, atol=1e-12)
    detection_of = association.assign(scores, CONFIG)
    duplicate = association.duplicates(scores, detection_of, CONFIG)
    assert (detection_of.tolist(), duplicate.tolist()) == slow_links(slow)


def _nobody(people):
    detections = Detections(np.full((people, 17, 2), 99.0), np.ones((people, 17)))
    return np.zeros((0, 17, 2)), np.zeros((0, 17)), detections, np.zeros((0, people, 17))


@pytest.mark.parametrize("seed", range(5))
def test_no_order_matters(seed):
    warped, found, people, reads = frame(seed)
    rng = np.random.default_rng(seed)
    q, p = rng.permutation(len(warped)), rng.permutation(len(people))
    before = association.score(warped, found, people, reads, SIGMAS, CONFIG)
    after = association.score(warped[q], found[q], people.take(p), reads[q][:, p], SIGMAS, CONFIG)
    links, shuffled = association.assign(before, CONFIG), association.assign(after, CONFIG)
    back = np.where(shuffled >= 0, p[shuffled], -1)
    assert back.tolist() == links[q].tolist()
    assert (links >= 0).any()


def test_no_detection_is_linked_twice_and_its_double_is_dropped():
    warped, found, people, _ = frame(1, tracks=1, people=1)
    found[:] = 0.9
    people = Detections(warped[[0, 0]] + [[[0.5]], [[1.0]]], np.ones((2, 17)))
    reads = np.full((2, 2, 17), 0.8)
    reads[1] = 0.7
    scores = association.score(warped[[0, 0]], found[[0, 0]], people, reads, SIGMAS, CONFIG)
    links = association.assign(scores, CONFIG)
    assert links.tolist() == [0, -1]
    assert association.duplicates(scores, links, CONFIG).tolist() == [False, True]
