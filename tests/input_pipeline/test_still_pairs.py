"""Pairs of views: the joints lie where the pixels say, and what is covered is absent."""

import numpy as np
import pytest

from input_pipeline import still_pairs
from input_pipeline.still_pairs import Still
from pinet_jax.config import load_config, with_fields
from pinet_jax.errors import UserError

CONFIG = load_config("correspondences")
PLAIN = with_fields(
    CONFIG,
    {f"stills.{name}": 0.0 for name in ("brightness", "contrast", "colour", "noise")},
).stills


def marked_still(people=3, seed=0, size=300):
    """Every joint is the middle of a disc of a colour of its own."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size, 3), np.uint8)
    joints = rng.uniform(60, size - 60, (people, 17, 2))
    rows, columns = np.mgrid[:size, :size]
    colours = np.zeros((people, 17, 3), np.uint8)
    for p in range(people):
        for k in range(17):
            colours[p, k] = 60 + 30 * p, 100 + 9 * k, 255
            x, y = joints[p, k]
            image[(columns - x) ** 2 + (rows - y) ** 2 < 4**2] = colours[p, k]
    labels = rng.integers(1, 3, (people, 17, 1))
    low, high = joints.min(1) - 10, joints.max(1) + 10
    keypoints = np.concatenate([joints, labels], -1).astype(np.float32)
    return Still(image, keypoints, np.concatenate([low, high - low], 1)), colours


def pair(still, seed, settings=PLAIN):
    return still_pairs.make_pair(still, 1, settings, np.random.default_rng(seed))


def test_a_joint_shows_its_colour_in_both_views():
    hits = total = 0
    for seed in range(10):
        still, colours = marked_still(seed=seed)
        view_a, view_b, queries, targets, valid, positive = pair(still, seed)
        order = np.argsort(-still.boxes[:, 2:].prod(1) - 1e9 * (np.arange(3) == 1))
        for view, points, there in ((view_a, queries, valid), (view_b, targets, positive)):
            x, y = np.round(points[there]).astype(int).T.clip(0, 255)
            wanted = np.pad(colours[order], ((0, 1), (0, 0), (0, 0)))[there].astype(int)
            apart = np.abs(view[y, x].astype(int) - wanted).max(1)
            hits += np.sum(apart < 12)
            total += len(apart)
    assert total > 200
    assert hits / total > 0.85  # other discs lie on some of them


def test_only_seen_joints_are_asked_and_what_is_covered_or_outside_is_absent():
    still, _ = marked_still()
    kinds = set()
    for seed in range(30):
        _, _, queries, targets, valid, positive = pair(still, seed)
        hidden = np.sum(still.keypoints[1, :, 2] == 1)
        assert not valid[0][still.keypoints[1, :, 2] == 1].any() and hidden
        assert not (positive & ~valid).any()
        inside = np.all((targets >= 0) & (targets < 256), -1)
        assert not positive[~inside].any()
        assert np.all((queries[valid] >= 0) & (queries[valid] < 256))
        kinds |= {"outside"} if (valid & ~inside).any() else set()
        kinds |= {"covered"} if (valid & inside & ~positive).any() else set()
        assert not valid[3].any()  # nobody has the fourth place
    assert kinds == {"outside", "covered"}


def test_the_largest_people_are_asked_with_the_cropped_one():
    still, _ = marked_still(people=6)
    slots = still_pairs._slots(still, 2, 4)
    np.testing.assert_array_equal(slots[0], still.keypoints[2])
    largest = np.argsort(-still.boxes[:, 2:].prod(1))
    np.testing.assert_array_equal(slots[1:], still.keypoints[[n for n in largest if n != 2][:3]])


def test_batches_are_drawn_by_number_so_that_training_can_resume():
    config = with_fields(CONFIG, {"train.batch_size": 2})
    kinds = [[marked_still()[0]], [marked_still(seed=1)[0]]]
    whole, resumed = (still_pairs.batches(config, kinds, start) for start in (0, 2))
    next(whole), next(whole)
    for one, other in zip(
        next(whole).__dict__.values(), next(resumed).__dict__.values(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_people_too_small_to_crop_are_named():
    config = with_fields(CONFIG, {"stills.min_side": 1000.0})
    with pytest.raises(UserError, match="min_side"):
        next(still_pairs.batches(config, [[marked_still()[0]]], 0))


def test_synthetic_stills_have_their_people():
    config = with_fields(CONFIG, {"synthcrowd.image_size": 64, "synthcrowd.people": (1, 2)})
    stills = still_pairs.synthetic(config, "val", 3)
    assert len(stills) == 3
    assert all(1 <= len(s.keypoints) == len(s.boxes) <= 2 for s in stills)
    assert stills[0].image.shape == (64, 64, 3)
