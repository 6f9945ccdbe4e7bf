"""The linker on textured squares that move: with the package's weights, frame after frame."""

import cv2
import numpy as np

from pinet_jax.config import load_config
from pinet_jax.tracking.correspondences.linker import CorrespondenceLinker
from pinet_jax.tracking.correspondences.view import SquareView
from pinet_jax.tracking.correspondences.warping import Warper
from pinet_jax.tracking.frames import Detections, nobody
from pinet_jax.tracking.tracker import follow

SIZE = 256
SIDE = 60  # pixels of a square
STEPS = np.array([[7, 2], [-6, 3], [2, -5]])  # pixels a frame
STARTS = np.array([[20, 20], [180, 30], [90, 180]])


def texture(rng, cells, size):
    return cv2.resize(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8), (size, size))


def video(frames=6, still=False):
    """Images and, of each, who is where: 3 squares with joints at fixed places on them."""
    rng = np.random.default_rng(0)
    back = texture(rng, 12, SIZE) // 2
    squares = [texture(rng, 5, SIDE) for _ in STARTS]
    joints = rng.uniform(8, SIDE - 8, (3, 17, 2))
    for frame in range(frames):
        image, corners = back.copy(), STARTS + (0 if still else frame) * STEPS
        for (x, y), square in zip(corners, squares, strict=True):
            image[y : y + SIDE, x : x + SIDE] = square
        yield image, Detections(joints + corners[:, None], np.full((3, 17), 0.9))


def tracked(frames, estimate=None, **tracking):
    fields = {"view_size": SIZE, "max_age": 3, **tracking}
    config = load_config("coco", {f"tracking.{name}": value for name, value in fields.items()})
    linker = CorrespondenceLinker(config, SquareView(SIZE), Warper(config), estimate)
    return [people for _, people in follow(frames, linker, config)]


def who(people, truth):
    """Of each square the id of the person on it, 0 for none."""
    apart = np.abs(people.keypoints[:, None] - truth.keypoints).max((2, 3))
    on = apart < 1e-6
    return [int(people.ids[on[:, n]][0]) if on[:, n].any() else 0 for n in range(len(truth))]


def test_ids_survive_shuffled_detections():
    truth = [people for _, people in video()]
    rng = np.random.default_rng(1)
    shuffled = [(image, people.take(rng.permutation(3))) for image, people in video()]
    ids = [who(p, t) for p, t in zip(tracked(shuffled), truth, strict=True)]
    assert sorted(ids[0]) == [1, 2, 3]
    assert all(row == ids[0] for row in ids)


def test_a_person_missed_for_some_frames_is_found_by_what_was_last_seen():
    truth = [people for _, people in video()]
    gone = [
        (image, people.take(np.array([0, 2])) if 2 <= frame <= 3 else people)
        for frame, (image, people) in enumerate(video())
    ]
    ids = [who(p, t) for p, t in zip(tracked(gone), truth, strict=True)]
    assert ids[2][1] == 0 and ids[5] == ids[0]


def test_merging_joins_what_the_age_does_not():
    truth = [people for _, people in video(9)]
    gone = [
        (image, people.take(np.array([0, 2])) if 3 <= frame <= 5 else people)
        for frame, (image, people) in enumerate(video(9))
    ]
    apart = tracked(gone, max_age=0)
    merged = tracked(gone, max_age=0, merge=True)
    before, after = who(apart[0], truth[0]), who(apart[8], truth[8])
    assert before[1] != after[1] and before[0] == after[0]
    assert who(merged[8], truth[8]) == who(merged[0], truth[0])


def test_recovery_looks_back_one_frame_without_chaining():
    images, truth = zip(*video(), strict=True)
    gone = [
        (image, people.take(np.array([0, 2])) if frame in (2, 3) else people)
        for frame, (image, people) in enumerate(video())
    ]
    asked = []

    def estimate(crops):
        asked.append(len(crops))
        known = truth[2].keypoints[1]
        middle = (known.min(0) + known.max(0)) / 2  # of the crop too, within some pixels
        scale = crops[0].shape[0] / (1.25 * (np.ptp(known, 0).max() + 10))
        crop = (known - middle) * scale + crops[0].shape[0] / 2
        return [Detections(crop[None], np.full((1, 17), 0.8))] * len(crops)

    people = tracked(gone, estimate)
    assert asked == [1]  # in frame 2; in frame 3 it would be from who was recovered
    counts = [len(p) for p in people]
    assert counts == [3, 3, 3, 2, 3, 3]
    assert len(images) == 6


def test_frames_without_people_and_a_video_of_one_frame():
    empty = [(image, nobody(17)) for image, _ in video(4)]
    assert [len(p) for p in tracked(empty)] == [0] * 4
    one = list(video(1))
    assert [len(p) for p in tracked(one, min_length=1)] == [3]


def test_a_still_video_gives_no_switch():
    ids = [p.ids.tolist() for p in tracked(video(5, still=True))]
    assert ids == [[1, 2, 3]] * 5
