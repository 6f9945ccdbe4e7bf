"""Synthetic videos: the same seed the same video, true identities, the kinds' characters."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.synthcrowd.render import annotate
from input_pipeline.synthvideo import detector, disk, motion, render, truth
from input_pipeline.synthvideo.figures import _gaps, figures
from input_pipeline.synthvideo.kinds import KINDS, MOST_PEOPLE
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.skeletons import COCO
from pinet_jax.tracking import posetrack

pytestmark = pytest.mark.slow

SIZE, LENGTH = 64, 24


def config(**changes):
    fields = {"image_size": SIZE, "frames": LENGTH, "num_videos": 2} | changes
    return load_config("base", {f"synthvideo.{name}": value for name, value in fields.items()})


@functools.cache
def videos(kind, count=3, frames=LENGTH):
    return list(render.videos(config(frames=frames), kind, "val", count))


@functools.cache
def moved(kind, count=24):
    """Keypoints of many videos of a kind, without pictures: cheap enough to count."""

    def one(key):
        cast = motion.sample_cast(key, KINDS[kind], SIZE)

        def at(time):
            people = motion.people_at(cast, time, SIZE)
            return annotate(people, SIZE), people.boxes, people.valid

        return jax.lax.map(at, jnp.arange(48.0))

    keys = jax.random.split(jax.random.key(0), count)
    points, boxes, valid = jax.device_get(jax.jit(lambda k: jax.lax.map(one, k))(keys))
    sides = np.clip(boxes, 0, SIZE)
    area = 0.5 * (sides[..., 2:] - sides[..., :2]).prod(-1) * valid
    empty = np.zeros((48, 1, 1, 3), np.uint8)
    return [render.Frames(empty, p, a, b, b) for p, a, b in zip(points, area, boxes, strict=True)]


def test_the_same_seed_gives_the_same_video_and_longer_ones_begin_alike():
    (again,) = render.videos(config(frames=6), "crossing", "val", 1, start=1)
    for a, b in zip(again, videos("crossing")[1], strict=True):
        np.testing.assert_array_equal(a, b[:6])
    (other,) = render.videos(config(frames=1), "crossing", "train", 1, start=1)
    assert (other.images != again.images[:1]).any()


def test_background_and_clothes_stay_and_noise_does_not():
    video = videos("crossing")[0]
    corner = video.images[:, :12, :12].astype(int)  # above everybody's head
    assert (corner[0] != corner[1]).any()
    assert np.abs(corner[0] - corner[-1]).mean() < 12


def test_dressed_alike():
    """The colour of everybody's seen shirt, in pictures without noise to speak of."""

    def spread(kind):
        found = []
        for video in videos(kind):
            colors = [
                video.images[f, y, x]
                for f, people in enumerate(video.keypoints.round().astype(int))
                for x, y, v in people[:, 5]  # the left shoulder
                if v == 2
            ]
            found.append(np.std(colors, axis=0).mean())
        return np.mean(found)

    assert spread("uniform") < 0.7 * spread("crossing")


def test_the_kinds_are_as_hard_as_they_should_be():
    known = {kind: figures(moved(kind), KINDS[kind].min_seen) for kind in KINDS}
    assert known["walk"].own_oks > 0.8 and known["crossing"].own_oks > 0.6
    assert known["fast"].own_oks < 0.3
    assert known["pan"].own_oks < 0.5
    for kind in ("crossing", "uniform", "pan"):
        assert 3 <= known[kind].gap <= 15
    assert known["crossing"].hidden_and_back >= 24 > known["walk"].hidden_and_back


def test_the_camera_moves_background_and_people_together():
    cast = jax.jit(lambda key: motion.sample_cast(key, KINDS["pan"], SIZE))(jax.random.key(1))
    people_at = jax.jit(lambda c, time: motion.people_at(c, time, SIZE))
    still = cast._replace(pan=jnp.zeros(3))
    for time in jnp.array([3.0, 8.0]):
        shift = motion.camera_x(cast, time)
        assert shift == round(float(shift)) and abs(float(shift)) <= KINDS["pan"].pan * SIZE + 1
        panned, fixed = (people_at(c, jnp.float32(time)) for c in (cast, still))
        np.testing.assert_allclose(
            fixed.keypoints - panned.keypoints,
            np.broadcast_to([shift, 0, 0], fixed.keypoints.shape),
            atol=1e-3,
        )


def test_truth_is_who_shows_enough_with_a_head_above_the_hips(tmp_path):
    video = videos("crossing")[0]
    content = truth.annotations(video, 8, [f"{f}.jpg" for f in range(LENGTH)])
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    read = posetrack.read(path)
    assert read.keypoints == COCO.keypoints and len(read.frames) == LENGTH
    seen = (video.keypoints[..., 2] == 2).sum(-1) >= 8
    for number, frame in enumerate(read.frames):
        rows = np.flatnonzero(seen[number])
        assert frame.ids.tolist() == (rows + 1).tolist()
        np.testing.assert_allclose(frame.areas, video.area[number, rows])
        np.testing.assert_allclose(frame.keypoints, video.keypoints[number, rows, :, :2], atol=0.01)
        x, y, width, height = frame.head_boxes.T
        nose = video.keypoints[number, rows, 0]
        inside = (nose[:, 0] >= x - 1) & (nose[:, 0] <= x + width + 1)
        inside &= (nose[:, 1] >= y - 1) & (nose[:, 1] <= y + height + 1)
        assert (inside | (nose[:, 2] == 0)).all()


def test_gaps():
    assert _gaps(np.array([0, 1, 0, 0, 1, 1, 0, 1, 0], bool)) == [2, 1]


# ---- The detector


def test_the_detector_is_as_faulty_as_it_should_be():
    noise, missed, counted, doubled = [], 0, 0, 0
    for number, video in enumerate(moved("walk")):
        there = truth.scored(video, 4)
        seen = (video.keypoints[..., 2] == 2).sum(-1)
        most = seen >= 0.7 * seen.max(0)
        for f, found in enumerate(detector.detect(video, 4, (0, number))):
            people = np.flatnonzero(there[f])
            if not len(people):
                assert not len(found)
                continue
            away = found.keypoints[:, None] - video.keypoints[f, people, :, :2]
            nearest = (away**2).sum((2, 3)).argmin(1) if len(found) else np.zeros(0, int)
            doubled += len(found) - len(set(nearest.tolist()))
            whole = [n for n, p in enumerate(people) if most[f, p]]
            counted += len(whole)
            missed += sum(n not in nearest for n in whole)
            for row, n in enumerate(nearest):
                if (nearest == n).sum() == 1:
                    joints = video.keypoints[f, people[n], :, 2] == 2
                    scale = np.sqrt(video.area[f, people[n]])
                    noise.append((away[row, n, joints] / scale).ravel())
                    hidden = video.keypoints[f, people[n], :, 2] == 1
                    assert (found.keypoint_scores[row, hidden] < 0.5).all()
                    assert (found.keypoint_scores[row, joints] > 0.5).all()
    assert np.std(np.concatenate(noise)) == pytest.approx(0.025, rel=0.1)
    assert 0.03 < missed / counted < 0.05
    assert 0.05 < doubled / counted < 0.08


def test_the_detectors_faults_are_those_of_its_seed():
    video = moved("crossing")[0]
    one, same, other = (detector.detect(video, 8, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert all((a.keypoints == b.keypoints).all() for a, b in zip(one, same, strict=True))
    assert any(a.keypoints.shape != b.keypoints.shape for a, b in zip(one, other, strict=True))


# ---- On disk


def test_what_is_written_can_be_tracked_and_scored(tmp_path):
    written = disk.write(config(frames=3), tmp_path, "val", "walk")
    assert len(written) == 2 and len(written[0].area[0]) == MOST_PEOPLE
    for name in ("walk_00", "walk_01"):
        frames = sorted((tmp_path / "frames" / name).iterdir())
        video = posetrack.read(tmp_path / "annotations" / f"{name}.json")
        assert [frame.file_name for frame in video.frames] == [
            f"frames/{name}/{path.name}" for path in frames
        ]


@pytest.mark.parametrize(
    ("kind", "split", "changes", "words"),
    [
        ("swim", "val", {}, "no kind 'swim': use walk, fast"),
        ("walk", "test", {}, "no split 'test': use train, val"),
        ("walk", "val", {"image_size": 60}, "image_size is 60: give a multiple of 16"),
        ("walk", "val", {"frames": 0}, "frames is 0"),
    ],
)
def test_what_cannot_be_rendered(kind, split, changes, words):
    with pytest.raises(UserError, match=words):
        next(render.videos(config(**changes), kind, split, 1))
