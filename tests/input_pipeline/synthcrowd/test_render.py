"""Scenes: true visibility, silhouettes, crowding, padding, determinism."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from input_pipeline.synthcrowd import body, render, scene
from pinet_jax import skeletons
from pinet_jax.evaluation.box_iou import mean_pair_iou

SIZE, MOST = 64, 3
NAMES = skeletons.COCO.keypoints


def crowd_config(**changes):
    numbers = dict(image_size=SIZE, people=(0, MOST), pair_iou=0.4, height=(0.5, 0.9), yaw=180.0)
    return ConfigDict(numbers | changes)


def keys(count):
    return jax.random.split(jax.random.key(7), count)


@functools.cache
def scenes(count=24):
    """Scenes of nobody to three, with the people they were drawn from."""
    config = crowd_config()

    def both(key):
        people_key, *_ = jax.random.split(key, 4)
        return render.render_scene(key, config), scene.sample_people(people_key, config)

    return jax.device_get(jax.jit(lambda k: jax.lax.map(both, k))(keys(count)))


def reference_depth(people, x, y):
    """First depth and person at each (x, y): the nearest of many balls along every capsule."""
    depth, person = np.full(np.shape(x), np.inf), np.full(np.shape(x), -1)
    for i in np.flatnonzero(people.valid):
        for start, end, radius in zip(*(a[i] for a in people.capsules), strict=True):
            for t in np.linspace(0, 1, 65):
                center, r = start + t * (end - start), radius[0] + t * (radius[1] - radius[0])
                q = r**2 - (x - center[0]) ** 2 - (y - center[1]) ** 2
                z = np.where(q > 0, center[2] - np.sqrt(np.maximum(q, 0)), np.inf)
                person = np.where(z < depth, i, person)
                depth = np.minimum(depth, z)
    return depth, person


def each(tree, index):
    return jax.tree.map(lambda a: a[index], tree)


@pytest.mark.slow
def test_depth_buffer_is_that_of_balls_along_the_capsules():
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    first_hits = jax.jit(render.first_hits)
    for index in range(3):
        people = each(scenes()[1], index)
        surface, rays = first_hits(people, x, y)
        depth, person = reference_depth(people, x, y)
        hit = np.asarray(surface.depth) < render.FAR
        assert np.mean(hit != np.isfinite(depth)) < 0.002
        both = hit & np.isfinite(depth)
        assert np.mean(np.abs(np.asarray(surface.depth) - depth)[both] < 0.3) > 0.98
        mine = np.asarray(surface.capsule) // len(body.CAPSULE_MATERIALS)
        assert np.mean((mine == person)[both]) > 0.98
        for i in range(MOST):
            alone = people._replace(valid=people.valid & (np.arange(MOST) == i))
            silhouette = np.isfinite(reference_depth(alone, x, y)[0]).sum()
            assert rays[i] == pytest.approx(silhouette, abs=3)


def test_tiles_give_what_one_tile_gives():
    axis = (np.arange(2 * SIZE) + 0.5) / 2 - 0.5
    x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
    people = each(scenes()[1], 0)
    tiled, tiled_rays = jax.jit(render.crowd_hits)(people, x, y)
    whole, whole_rays = jax.jit(render.first_hits)(people, x, y)
    np.testing.assert_allclose(tiled.depth, whole.depth, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(tiled_rays, whole_rays)


def test_visibility_agrees_with_the_reference_depth():
    checked = 0
    for index in range(6):
        drawn, people = each(scenes(), index)
        x, y, z = np.moveaxis(people.keypoints, -1, 0)
        depth, _ = reference_depth(people, x, y)
        slack = depth - (z - body.COVER * people.scale[:, None])
        v = drawn.keypoints[..., 2]
        clear = (v > 0) & (np.abs(slack) > 0.3)
        checked += clear.sum()
        np.testing.assert_array_equal(v[clear], np.where(slack > 0, 2, 1)[clear])
    assert checked > 100


def test_v_is_zero_exactly_outside_the_image():
    drawn, people = scenes()
    points = people.keypoints[..., :2]
    inside = np.all((points >= -0.5) & (points < SIZE - 0.5), axis=-1)
    real = people.valid[..., None]
    np.testing.assert_array_equal(drawn.keypoints[..., 2] > 0, inside & real)
    assert np.any(real & ~inside), "no keypoint outside to test with"
    np.testing.assert_array_equal(drawn.keypoints[~(inside & real)], 0)
    labelled = inside & real
    np.testing.assert_allclose(drawn.keypoints[..., :2][labelled], points[labelled], atol=1e-4)


def standing(turns, depths):
    """People who stand one behind the other in the middle of the picture."""
    pose = body.Pose(
        jnp.zeros((3, 3)), jnp.deg2rad(jnp.asarray([[0.0, 20, 0, 5]] * 2)), jnp.zeros((2, 4))
    )
    shape = body.Shape(*[jnp.ones(())] * 5, jnp.zeros(()), jnp.zeros(()))
    capsules, keypoints = body.assemble(pose, shape)
    scale, rows = 50.0, []
    for turn, depth in zip(turns, depths, strict=True):
        axes = scene.camera_axes(jnp.float32(turn), jnp.float32(0))
        move = jnp.asarray([SIZE / 2, SIZE / 2, depth])
        start, end, points = (
            scale * p @ axes.T + move for p in (capsules.start, capsules.end, keypoints)
        )
        rows.append((body.Capsules(start, end, scale * capsules.radius), points))
    capsules, keypoints = jax.tree.map(lambda *a: jnp.stack(a), *rows)
    n = len(rows)
    return scene.People(
        capsules, keypoints, jnp.zeros((n, 4)), jnp.full(n, scale), jnp.ones(n, bool)
    )


def test_person_behind_is_hidden_and_the_back_of_a_head_hides_its_face():
    annotate = jax.jit(render.annotate, static_argnums=1)
    v = np.asarray(annotate(standing((0.0, 0.0), (0.0, 40.0)), SIZE))[..., 2]
    np.testing.assert_array_equal(v, [[2] * 17, [1] * 17])
    v = np.asarray(annotate(standing((0.0, 0.0), (40.0, 0.0)), SIZE))[..., 2]
    np.testing.assert_array_equal(v, [[1] * 17, [2] * 17])
    v = np.asarray(annotate(standing((np.pi, 0.0), (0.0, 40.0)), SIZE))[0, :, 2]
    hidden = {"nose", "left_eye", "right_eye"}
    assert {name for name, seen in zip(NAMES, v, strict=True) if seen == 1} == hidden
    # From its left side the right half of the face and body is away from the camera.
    v = np.asarray(annotate(standing((-np.pi / 2, 0.0), (0.0, 40.0)), SIZE))[0, :, 2]
    seen = dict(zip(NAMES, v, strict=True))
    for joint in ("eye", "ear", "shoulder", "knee"):
        assert (seen[f"left_{joint}"], seen[f"right_{joint}"]) == (2, 1), joint


def test_people_counts_cover_the_range_and_padding_is_zero():
    drawn, people = scenes()
    counts = people.valid.sum(axis=1)
    assert set(counts) == set(range(MOST + 1))
    for index, count in enumerate(counts):
        real, rest = slice(0, count), slice(count, None)
        assert np.all(drawn.area[index, real] >= 1)
        assert np.all(drawn.boxes[index, real, 2:] > 0)
        for array in (drawn.area, drawn.boxes, drawn.keypoints):
            np.testing.assert_array_equal(array[index, rest], 0)


def test_boxes_hold_the_silhouettes():
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    drawn, people = each(scenes(), int(np.argmax(scenes()[1].valid.sum(1))))
    for i in np.flatnonzero(people.valid):
        alone = people._replace(valid=np.arange(MOST) == i)
        rows, columns = np.nonzero(np.isfinite(reference_depth(alone, x, y)[0]))
        low, high = drawn.boxes[i, :2], drawn.boxes[i, :2] + drawn.boxes[i, 2:]
        found = [columns.min(), rows.min(), columns.max(), rows.max()]
        np.testing.assert_allclose([*low, *high], found, atol=1.2)
        assert drawn.area[i] == pytest.approx(len(rows), rel=0.05)


def test_a_scene_depends_on_its_key_alone():
    one = jax.jit(lambda key: render.render_scene(key, crowd_config()))
    for index in (0, 5):
        drawn = one(keys(24)[index])
        expected = each(scenes()[0], index)
        # Another compilation may round differently.
        difference = np.abs(np.int32(drawn.image) - np.int32(expected.image))
        assert np.mean(difference > 1) < 0.001
        np.testing.assert_allclose(drawn.keypoints, expected.keypoints, atol=1e-3)
    first, second = each(scenes()[0], 0), each(scenes()[0], 1)
    assert np.mean(first.image != second.image) > 0.5


@jax.jit
def corner_boxes(wish, keys):
    config = ConfigDict(crowd_config(people=(2, 4)).to_dict() | {"pair_iou": wish})

    def one(key):
        drawn = scene.sample_people(key, config)
        return scene.clip_box(drawn.boxes, SIZE), drawn.valid

    return jax.lax.map(one, keys)


def realised_iou(wish):
    corners, valid = jax.device_get(corner_boxes(wish, keys(100)))
    sizes = np.concatenate([corners[..., :2], corners[..., 2:] - corners[..., :2]], axis=-1)
    return mean_pair_iou([box[mask] for box, mask in zip(sizes, valid, strict=True)])


@pytest.mark.slow
def test_crowding_follows_the_wish():
    wishes = (0.1, 0.4, 0.67)
    realised = [realised_iou(wish) for wish in wishes]
    assert realised == sorted(realised)
    np.testing.assert_allclose(realised, wishes, atol=0.03)


def test_mean_pair_iou():
    pair = np.array([[0, 0, 2, 2], [1, 0, 2, 2], [10, 10, 1, 1]], float)
    assert mean_pair_iou([pair[:2]]) == pytest.approx(1 / 3)
    assert mean_pair_iou([pair]) == pytest.approx(2 / 9)
    assert mean_pair_iou([pair[:1], pair[:2], pair[:0]]) == pytest.approx(1 / 3)
    assert mean_pair_iou([pair[:1]]) == 0
