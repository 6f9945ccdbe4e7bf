"""CID's targets against loops, and what is drawn at random."""

import functools
import math

import jax
import numpy as np
import pytest

from pinet_jax.methods.cid import targets
from pinet_jax.methods.randomness import image_keys
from tests import tiny

SIDE = tiny.SIZE // 4


def make_batch(**shape):
    batch = tiny.batch(**shape)
    batch["key"] = image_keys(0, 0, np.arange(len(batch["image"])))
    return batch


@functools.cache
def renderer(**fields):
    config = tiny.config(**{f"targets.{name}": value for name, value in fields.items()})
    return jax.jit(lambda batch: targets.targets_of(None, batch, config))


def render(batch, **fields):
    return jax.device_get(renderer(**fields)(batch))


# ---- Loops


def slow_radius(height, width, overlap=0.7):
    a, p = height + width, height * width
    first = (a + math.sqrt(a * a - 4 * p * (1 - overlap) / (1 + overlap))) / 2
    second = a + math.sqrt(a * a - 4 * (1 - overlap) * p)
    third = -overlap * a + math.sqrt((overlap * a) ** 2 + 4 * overlap * (1 - overlap) * p)
    return int(min(first, second, third))


def slow_box_radius(corners):
    clipped = np.clip(corners / 4, 0, SIDE - 1)
    (left, top), (right, bottom) = clipped.min(0), clipped.max(0)
    return slow_radius(math.ceil(bottom - top), math.ceil(right - left))


def draw(heatmap, x, y, radius):
    """CornerNet's Gaussian about (int(x), int(y)), if that is in the map."""
    x, y, sigma = int(x), int(y), (2 * radius + 1) / 6
    if not (0 <= x < SIDE and 0 <= y < SIDE):
        return
    for row in range(max(y - radius, 0), min(y + radius + 1, SIDE)):
        for column in range(max(x - radius, 0), min(x + radius + 1, SIDE)):
            value = math.exp(-((row - y) ** 2 + (column - x) ** 2) / (2 * sigma**2))
            heatmap[row, column] = max(heatmap[row, column], value)


def slow_heatmaps(batch, image, min_area):
    heatmaps = np.zeros((SIDE, SIDE, 18))
    for person, area in zip(range(len(batch["area"][image])), batch["area"][image], strict=True):
        points = batch["keypoints"][image, person] / [4, 4, 1]
        labelled = points[:, 2] > 0
        if area == 0 or not labelled.any():
            continue
        radius = slow_box_radius(batch["corners"][image, person])
        for keypoint in np.flatnonzero(labelled):
            draw(heatmaps[..., keypoint], *points[keypoint, :2], radius)
        if area >= min_area:
            draw(heatmaps[..., 17], *points[labelled, :2].mean(0), radius)
    return heatmaps


@pytest.mark.parametrize("min_area", [1024.0, 2500.0])
def test_everybodys_heatmaps_against_loops(min_area):
    batch = make_batch(seed=3, images=3, persons=4)
    batch["corners"] *= np.linspace(0.5, 1.6, 4)[:, None, None].astype(np.float32)
    found = render(batch, min_area=min_area)
    for image in range(3):
        want = slow_heatmaps(batch, image, min_area)
        np.testing.assert_allclose(found.heatmaps[image], want, atol=1e-6)
    assert found.heatmaps[1:].max() == 1 and not found.heatmaps[0].any()


def test_radius_of_every_box():
    height, width = (x.ravel() for x in np.mgrid[1:97, 1:97])
    found = targets.gaussian_radius(np.float32(height), np.float32(width), 0.7)
    want = [slow_radius(int(h), int(w)) for h, w in zip(height, width, strict=True)]
    np.testing.assert_array_equal(np.asarray(found).astype(int), want)


def test_the_corners_of_a_turned_box_are_clipped_one_by_one():
    corners = np.array([[-8.0, 20], [20, -8], [20, 48], [48, 20]], np.float32)
    found = targets.box_radius(corners / 4, (SIDE, SIDE), 0.7)
    assert found == slow_box_radius(corners) == slow_radius(12, 12)


# ---- Instances


def test_instances_are_those_with_a_centre_in_the_map():
    batch = make_batch(seed=5, images=3, persons=4)
    batch["keypoints"][1, 0, :, 2] = 0  # without a label
    batch["keypoints"][1, 1, :, 0] += 4 * SIDE  # outside
    batch["area"][2] = (2000, 1000, 0, 1500)  # too small, padding
    found = render(batch, center_jitter=0).instances
    assert not found.valid[:4].any() and not found.valid[[4, 5, 9, 10]].any()
    assert found.valid[[6, 7, 8, 11]].all()
    for place in (6, 7, 8, 11):
        image, person = divmod(place, 4)
        points = batch["keypoints"][image, person]
        center = points[points[:, 2] > 0, :2].mean(0) / 4
        assert found.image[place] == image
        np.testing.assert_array_equal(found.centers[place], center.astype(int))
        np.testing.assert_array_equal(found.labelled[place], points[:, 2] > 0)


def test_an_instance_trains_an_empty_map_where_a_keypoint_is_outside():
    batch = make_batch(seed=6, images=2, persons=1)
    batch["keypoints"][1, 0, 0] = (-40, 20, 2)
    batch["keypoints"][1, 0, 1] = (20, 20, 0)
    found = render(batch).instances
    own = np.asarray(targets.instance_heatmaps(found, (SIDE, SIDE)))[1]
    assert found.labelled[1, 0] and not found.labelled[1, 1]
    assert not own[..., :2].any() and own[..., 2:].any()


def test_of_two_at_one_pixel_the_smallest_is_read_there():
    batch = make_batch(seed=7, images=2, persons=3)
    batch["keypoints"][1] = batch["keypoints"][1, :1]
    batch["area"][1] = (3000, 2000, 2000)
    found = render(batch, center_jitter=0).instances
    np.testing.assert_array_equal(found.valid[3:], [False, True, False])


def test_centres_move_by_a_pixel_at_most_and_repeat_with_the_key():
    batch = make_batch(seed=8, images=4, persons=3)
    still = render(batch, center_jitter=0).instances
    moves = []
    for step in range(30):
        batch["key"] = image_keys(0, step, np.arange(4))
        moved = render(batch).instances
        both = still.valid & moved.valid
        moves.append((moved.centers - still.centers)[both])
    batch["key"] = image_keys(0, 29, np.arange(4))
    np.testing.assert_array_equal(render(batch).instances.centers, moved.centers)
    moves = np.concatenate(moves)
    assert {tuple(move) for move in moves} == {(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)}
    assert (moved.centers >= 0).all() and (moved.centers < SIDE).all()


def test_of_too_many_instances_a_random_choice_is_trained_on():
    batch = make_batch(seed=9, images=3, persons=4)
    whole = render(batch, center_jitter=0).instances
    assert whole.valid.sum() == 8
    chosen = []
    for step in range(8):
        batch["key"] = image_keys(0, step, np.arange(3))
        few = render(batch, center_jitter=0, max_instances=5).instances
        assert few.valid.all() and len(few.valid) == 5
        chosen.append(frozenset(zip(few.image, map(tuple, few.centers), strict=True)))
        assert len(chosen[-1]) == 5
    assert len(set(chosen)) > 1
    enough = render(batch, center_jitter=0, max_instances=9).instances
    assert enough.valid.sum() == 8  # and one place is left


@pytest.mark.slow
def test_targets_as_pictures_show_them():
    batch, config = make_batch(seed=10, images=3, persons=2), tiny.config()
    found, shown = render(batch), targets.show_targets(batch, config)
    np.testing.assert_allclose(shown.keypoint_heatmaps, found.heatmaps[..., :-1], atol=1e-6)
    np.testing.assert_allclose(shown.part_heatmaps, found.heatmaps[..., -1:], atol=1e-6)
    instances = found.instances
    own = np.asarray(targets.instance_heatmaps(instances, (SIDE, SIDE))).max(-1)
    for place in range(6):
        row = np.asarray(shown.centers).reshape(6, 3)[place]
        assert row[2] == instances.valid[place]
        if row[2]:
            np.testing.assert_array_equal(row[:2], 4 * instances.centers[place])
        wanted = own[place] * instances.valid[place]
        found_here = shown.person_heatmaps.reshape(6, SIDE, SIDE)[place]
        np.testing.assert_allclose(found_here, wanted, atol=1e-6)
    assert instances.valid.sum() == 4
