"""What is uncertain or short is removed at the end, and frames wait no longer than they must."""

import numpy as np
import pytest

from pinet_jax.tracking import endings
from pinet_jax.tracking.frames import Tracked
from tests.pinet_jax.tracking import people


def frame(*ids, scores=0.9):
    found = people.at(*((50 * number, 50) for number in ids), scores=scores)
    return Tracked(found.keypoints, found.keypoint_scores, np.array(ids, int))


def run(frames, lives, **changes):
    """The ids of every frame that goes out, and after how many frames each did."""
    waiting, out, when = endings.Waiting(), [], []
    settings = people.config(**changes).tracking
    for number, (tracked, live) in enumerate(zip(frames, lives, strict=True)):
        waiting, ready = endings.add(waiting, number, tracked, live, settings)
        out += ready
        when += [number] * len(ready)
    out += endings.finish(waiting)
    assert [key for key, _ in out] == list(range(len(frames)))
    return [tracked.ids.tolist() for _, tracked in out], when


def slow_ids(frames, least, length):
    """Everything at once: the ids left in each frame, named by appearance."""
    left = [
        [i for i, s in zip(f.ids.tolist(), f.keypoint_scores, strict=True) if (s >= least).any()]
        for f in frames
    ]
    every = [i for ids in left for i in ids]
    names = {
        i: n + 1 for n, i in enumerate(dict.fromkeys(i for i in every if every.count(i) >= length))
    }
    return [[names[i] for i in ids if i in names] for ids in left]


def test_short_tracks_go_and_the_others_are_numbered_by_appearance():
    frames = [frame(7), frame(3, 7), frame(3, 5), frame(3, 5, 7), frame(5)]
    lives = [{7}, {3, 7}, {3, 5, 7}, {3, 5, 7}, {5}]
    ids, when = run(frames, lives)
    assert ids == [[1], [2, 1], [2, 3], [2, 3, 1], [3]]
    # 7 is sure in frame 3, and so is 3; 5 only in frame 4.
    assert when == [3, 3, 4, 4, 4]
    ids, _ = run([frame(1, 2), frame(1), frame(1)], [{1, 2}, {1}, {1}])
    assert ids == [[1]] * 3


def test_a_frame_goes_out_when_its_tracks_are_dead():
    _, when = run([frame(1), frame(), frame(), frame()], [{1}, {1}, {1}, set()])
    assert when == [3, 3, 3, 3]
    _, when = run([frame()] * 3, [set()] * 3)
    assert when == [0, 1, 2]


def test_uncertain_joints_and_people_are_removed():
    tracked = frame(1, 2)
    scores = np.array(tracked.keypoint_scores)
    scores[0, 3], scores[1] = 0.2, 0.2
    left = endings.pruned(Tracked(tracked.keypoints, scores, tracked.ids), 0.3)
    assert left.ids.tolist() == [1]
    assert left.keypoint_scores[0, 3] == 0 and not left.keypoints[0, 3].any()
    np.testing.assert_array_equal(left.keypoints[0, :3], tracked.keypoints[0, :3])


def test_uncertain_frames_do_not_count():
    ids, _ = run([frame(1), frame(1, scores=0.2), frame(1)], [{1}] * 3)
    assert ids == [[], [], []]


def test_no_more_frames_wait_than_there_may_be():
    sure, unsure = frame(1), frame(1, scores=0.2)
    settings = people.config(max_age=2).tracking
    waiting, most = endings.Waiting(), 0
    for number in range(30):
        tracked = sure if number == 0 else unsure
        waiting, _ = endings.add(waiting, number, tracked, {1}, settings)
        most = max(most, len(waiting.frames))
    assert most == (settings.min_length - 1) * (settings.max_age + 1)


@pytest.mark.parametrize("seed", range(20))
def test_as_if_everything_were_known_at_once(seed):
    random = np.random.default_rng(seed)
    spans = np.sort(random.integers(0, 12, (8, 2)), axis=1)
    frames, lives = [], []
    for number in range(12):
        live = {i + 1 for i, (a, b) in enumerate(spans) if a <= number <= b}
        ids = sorted(i for i in live if random.random() < 0.7)
        frames.append(frame(*ids, scores=random.choice([0.9, 0.2], (len(ids), 1))))
        lives.append(live)
    ids, _ = run(frames, lives, max_age=20)
    assert ids == slow_ids(frames, 0.3, 3)
