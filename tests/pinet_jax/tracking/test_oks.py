"""Linking by similar poses, beside slow references."""

import math

import numpy as np
import pytest

from pinet_jax.skeletons import COCO
from pinet_jax.tracking import frames, oks
from tests.pinet_jax.tracking import people


def slow_oks(pose, valid, other, other_valid, area):
    both = [k for k in range(17) if valid[k] and other_valid[k]]
    terms = [
        math.exp(-(math.dist(pose[k], other[k]) ** 2) / (2 * area * (2 * COCO.sigmas[k]) ** 2))
        for k in both
    ]
    return sum(terms) / len(terms) if both else 0.0


def test_pose_oks_is_the_slow_one():
    random = np.random.default_rng(0)
    poses = [random.uniform(0, 60, (n, 17, 2)) for n in (3, 4)]
    valid = [random.random((n, 17)) < 0.6 for n in (3, 4)]
    valid[0][2] = False
    area = random.uniform(200, 4000, 4)
    got = frames.pose_oks(poses[0], valid[0], poses[1], valid[1], area, COCO.sigmas)
    for i in range(3):
        for j in range(4):
            wanted = slow_oks(poses[0][i], valid[0][i], poses[1][j], valid[1][j], area[j])
            assert got[i, j] == pytest.approx(wanted)


def test_boxes_reach_around_valid_joints_and_not_out_of_the_image():
    points = np.array([[[10.0, 20.0], [50.0, 60.0], [900.0, 900.0]], [[5.0, 5.0]] * 3])
    valid = np.array([[True, True, False], [False] * 3])
    corners = frames.boxes(points, valid, margin=15, size=(70, 100))
    np.testing.assert_array_equal(corners, [[0, 5, 65, 70], [0, 0, 0, 0]])
    np.testing.assert_array_equal(frames.areas(corners), [65 * 65, 0])


def slow_greedy(alike, least):
    """The largest of what is left, again and again."""
    left, detection_of = alike.copy(), np.full(len(alike), -1)
    while left.size and left.max() > least:
        track, detection = np.argwhere(left == left.max())[0]
        detection_of[track] = detection
        left[track], left[:, detection] = -np.inf, -np.inf
    return detection_of


@pytest.mark.parametrize("seed", range(10))
def test_greedy_takes_the_most_alike_first(seed):
    random = np.random.default_rng(seed)
    tracks, count = random.integers(0, 6, 2)
    alike = random.random((tracks, count))
    found = people.at(*((10 * i, 50) for i in range(count))) if count else people.NOBODY
    links = oks.greedy(alike, found, 0.4)
    np.testing.assert_array_equal(links.detection_of, slow_greedy(alike, 0.4))
    assert not links.duplicate.any() and links.detections is found
