"""Births, deaths and the memory of live tracks."""

import numpy as np

from pinet_jax.tracking import tracks
from pinet_jax.tracking.linkers import Links
from tests.pinet_jax.tracking import people


def links(found, detection_of=(), duplicate=()):
    flags = np.zeros(len(found), bool)
    flags[list(duplicate)] = True
    return Links(found, np.array(detection_of, int), flags)


def run(steps, **changes):
    """The people of every frame, and the state after the last."""
    settings, state, out = people.config(**changes).tracking, tracks.start(17), []
    for step in steps:
        state, tracked = tracks.advance(state, step, settings)
        out.append(tracked)
    return out, state


def test_the_surest_are_born_first_and_keep_their_ids():
    first = people.at((50, 50), (150, 50), scores=(0.5, 0.9))
    second = people.at((152, 50), (52, 50))
    (before, after), state = run([links(first), links(second, detection_of=(0, 1))])
    assert before.ids.tolist() == [1, 2]
    np.testing.assert_array_equal(before.keypoints, first.keypoints[::-1])
    assert after.ids.tolist() == [1, 2]
    np.testing.assert_array_equal(state.live.keypoints, second.keypoints)
    assert state.live.last_seen.tolist() == [1, 1]


def test_a_track_lives_max_age_frames_unseen_and_its_id_is_not_used_again():
    one = people.at((50, 50))
    nobody = people.NOBODY
    for max_age in (0, 2):
        _, state = run([links(one)], max_age=max_age)
        for missed in range(4):
            assert len(state.live) == (missed <= max_age)
            seen = links(nobody, [-1] * len(state.live))
            state, _ = tracks.advance(state, seen, people.config(max_age=max_age).tracking)
        state, tracked = tracks.advance(state, links(one), people.config().tracking)
        assert tracked.ids.tolist() == [2]


def test_duplicates_and_people_of_one_joint_are_not_born():
    found = people.at((50, 50), (52, 50), (150, 50))
    found.keypoint_scores.flags.writeable = True
    found.keypoint_scores[2, 1:] = 0.05
    (tracked,), state = run([links(found, duplicate=[1])])
    assert tracked.ids.tolist() == [1] and len(state.live) == 1
    np.testing.assert_array_equal(tracked.keypoints, found.keypoints[:1])


def test_the_order_of_detections_does_not_change_ids():
    found = people.at((50, 50), (150, 50), (250, 50), (50, 90))
    (wanted,), _ = run([links(found)])
    (tracked,), _ = run([links(found.take(np.array([2, 0, 3, 1])))])
    np.testing.assert_array_equal(tracked.keypoints, wanted.keypoints)


def test_of_too_many_live_tracks_those_longest_unseen_end():
    old, new = people.at((50, 50)), people.at((150, 50), (250, 50))
    (_, tracked), state = run([links(old), links(new, detection_of=[-1])], max_people=2)
    assert tracked.ids.tolist() == [2, 3] == state.live.ids.tolist()
