"""The tracker from frames to identities."""

import numpy as np
import pytest

import pinet_jax
from pinet_jax.errors import UserError
from pinet_jax.tracking import methods, tracker
from tests.pinet_jax.tracking import people

IMAGE = np.zeros((240, 320, 3), np.uint8)
METHODS = pytest.mark.parametrize("method", ["oks", "flow"])


class Known(pinet_jax.Predictor):
    """A predictor that finds in frame i what it was told; frames are numbered by a pixel."""

    def __init__(self, found, batch_size=4, **changes):
        self._found = found
        self.config = pinet_jax.config.with_fields(
            people.config(**changes), {"eval.batch_size": batch_size}
        )
        self.variables = {}
        self.batches = []

    def frames(self):
        for number in range(len(self._found)):
            image = np.random.default_rng(0).integers(0, 256, IMAGE.shape, np.uint8)
            image[0, 0, 0] = number
            yield image

    def __call__(self, images):
        self.batches.append(len(images))
        return [people.as_people(self._found[image[0, 0, 0]]) for image in images]


def track(found, **changes):
    predictor = Known(found, **changes)
    return list(pinet_jax.Tracker(predictor)(predictor.frames()))


def walkers(count, length, random=None):
    """People on lines of their own, in a new order in every frame if `random` is given."""
    out = []
    for number in range(length):
        found = people.at(*((30 + 25 * i + 3 * number, 40 + 12 * i) for i in range(count)))
        out.append(found.take(random.permutation(count)) if random else found)
    return out


def ways(tracked):
    """The hips' place in every frame by id."""
    out = {}
    for number, found in enumerate(tracked):
        assert len(set(found.ids.tolist())) == len(found.ids)
        for track_id, pose in zip(found.ids.tolist(), found.keypoints, strict=True):
            out.setdefault(track_id, {})[number] = tuple(pose[11].round(6))
    return out


@METHODS
def test_shuffled_detections_keep_their_ids(method):
    plain = ways(track(walkers(5, 9), method=method))
    mixed = ways(track(walkers(5, 9, np.random.default_rng(1)), method=method))
    assert plain == mixed
    assert set(plain) == {1, 2, 3, 4, 5} and all(len(way) == 9 for way in plain.values())


@METHODS
def test_a_still_video_has_no_switch(method):
    tracked = track([walkers(6, 1)[0]] * 12, method=method)
    assert {tuple(found.ids.tolist()) for found in tracked} == {(1, 2, 3, 4, 5, 6)}


@METHODS
def test_batches_of_one_and_of_eight_give_the_same_tracks(method):
    found = walkers(4, 11)
    assert ways(track(found, method=method, batch_size=1)) == ways(
        track(found, method=method, batch_size=8)
    )


@METHODS
@pytest.mark.parametrize("length", [0, 1, 5])
def test_videos_without_people(method, length):
    tracked = track([people.NOBODY] * length, method=method)
    assert [len(found) for found in tracked] == [0] * length


@METHODS
def test_a_video_of_one_frame_has_tracks_if_so_short_ones_are_wanted(method):
    (found,) = track(walkers(2, 1), method=method, min_length=1)
    assert found.ids.tolist() == [1, 2]
    (found,) = track(walkers(2, 1), method=method)
    assert not len(found)


@METHODS
def test_80_people_and_no_more(method):
    crowd = people.at(*((20 + 17 * (i % 15), 20 + 31 * (i // 15)) for i in range(90)))
    crowd.keypoint_scores.flags.writeable = True
    crowd.keypoint_scores[:10] = 0.35  # the weakest
    for found in track([crowd] * 4, method=method):
        assert len(found) == 80 and len(set(found.ids.tolist())) == 80
        assert found.keypoint_scores.min() == 0.9


def test_frames_come_out_soon_and_memory_stays_flat():
    predictor = Known([walkers(2, 1)[0]] * 60, batch_size=1)
    read, waiting = [], []

    def counted():
        for image in predictor.frames():
            read.append(1)
            yield image

    for number, _ in enumerate(pinet_jax.Tracker(predictor)(counted())):
        waiting.append(len(read) - number)
    assert len(waiting) == 60 and max(waiting) <= 3


def test_a_video_that_breaks_off_gives_what_came_before():
    def found():
        yield from ((IMAGE, frame) for frame in walkers(2, 5))

    config = people.config()
    tracked = list(tracker.follow(found(), methods.build(config, None), config))
    assert [len(p) for _, p in tracked] == [2] * 5


def test_merged_tracks_get_the_first_one_s_id():
    class Merging(methods.OksLinker):
        def merge(self, state, frames):
            assert [len(frame) for frame in frames] == [1] * 9
            return {2: 1, 3: 2}

    found = [people.at((40 + 90 * (number // 3), 100)) for number in range(9)]
    config = people.config(merge=True)
    linker = Merging(config.tracking, (0.05,) * 17)
    tracked = list(tracker.follow(((IMAGE, f) for f in found), linker, config))
    assert {i for _, p in tracked for i in p.ids.tolist()} == {1}


def test_methods_that_cannot_merge_say_so():
    with pytest.raises(
        UserError, match=r"tracking.merge: the method 'oks' cannot merge tracks: use"
    ):
        pinet_jax.Tracker(Known([], merge=True))


def test_unknown_methods_are_named():
    with pytest.raises(UserError, match=r"tracking.method: no method 'sort'; use one of oks"):
        pinet_jax.Tracker(Known([], method="sort"))
