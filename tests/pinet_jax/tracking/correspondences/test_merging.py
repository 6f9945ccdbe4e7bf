"""Step 8, with people who stand still where they are, or are warped as told."""

import numpy as np
import pytest

from pinet_jax.config import load_config
from pinet_jax.skeletons import COCO
from pinet_jax.tracking.correspondences.merging import continuations
from pinet_jax.tracking.frames import Tracked

CONFIG = load_config("coco").tracking
SIZE = (400, 600)
POSES = np.random.default_rng(0).uniform(-40, 40, (4, 17, 2))
PLACES = np.array([[80, 100], [300, 200], [500, 300], [90, 300]])


def video(*spans):
    """Tracks as (id, person, first frame, last frame); nobody moves."""
    length = max(last for *_, last in spans) + 1
    frames = []
    for frame in range(length):
        here = [(track, person) for track, person, a, b in spans if a <= frame <= b]
        poses = np.array([POSES[person] + PLACES[person] for _, person in here])
        ids = np.array([track for track, _ in here], int)
        poses = poses.reshape(-1, 17, 2)
        frames.append(Tracked(poses, np.ones(poses.shape[:2]), ids))
    return frames


def stays(people, times, target):
    del times, target
    return people.keypoints + 1.0, people.keypoint_scores


def merged(frames, warp=stays):
    return continuations(frames, SIZE, warp, COCO.sigmas, CONFIG)


def test_tracks_of_one_person_are_joined_over_a_gap_each_end_once():
    frames = video((1, 0, 0, 9), (2, 1, 0, 30), (3, 0, 15, 20), (4, 0, 25, 30))
    assert merged(frames) == {3: 1, 4: 3} or merged(frames) == {3: 1}
    assert merged(frames)[3] == 1


def test_a_track_is_continued_once():
    frames = video((1, 0, 0, 5), (2, 0, 8, 12), (3, 0, 8, 12))
    assert merged(frames) in ({2: 1}, {3: 1})


@pytest.mark.parametrize(
    "frames",
    [
        video((1, 0, 0, 9), (2, 0, 9, 12)),  # a frame in common
        video((1, 0, 0, 9), (2, 1, 12, 15)),  # somebody else
        video((1, 0, 0, 2), (2, 1, 0, 80), (3, 0, 63, 70)),  # 61 frames later
    ],
)
def test_others_are_not_joined(frames):
    assert merged(frames) == {}


def test_first_middle_and_last_pose_are_warped_straight_into_the_later_tracks_first_frame():
    asked = []

    def warp(people, times, target):
        asked.append((times.tolist(), target))
        return stays(people, times, target)

    merged(video((7, 0, 2, 8), (9, 0, 20, 25)), warp)
    assert asked == [([2, 5, 8], 20)]


def test_the_mean_of_three_decides():
    def one_of_three(people, times, target):
        joints, scores = stays(people, times, target)
        joints[1:] += 500
        return joints, scores

    frames = video((1, 0, 0, 9), (2, 0, 12, 15))
    assert merged(frames, one_of_three) == {2: 1}  # a third of almost 1 is above 0.3

    def unsure(people, times, target):
        joints, scores = stays(people, times, target)
        return joints, scores * 0.1

    assert merged(frames, unsure) == {}
