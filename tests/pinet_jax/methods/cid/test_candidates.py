"""CID's test procedure against loops, on a network that compiles in no time."""

import functools

import jax
import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import normalise
from pinet_jax.errors import UserError
from pinet_jax.methods import cid
from pinet_jax.methods.cid import candidates
from tests import tiny
from tests.pinet_jax.methods.cid.test_losses import patch_network

pytestmark = pytest.mark.slow


def random_images(config, batch=1, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        rng.integers(0, 255, (batch, int(64 * s), int(96 * s), 3), dtype=np.uint8)
        for s in config.eval.scales
    )


def find(config, images, to_image=None, seed=0):
    _, model, variables = patch_network()
    if config.dataset.skeleton != "coco":
        _, model, variables = patch_network(**{"dataset.skeleton": config.dataset.skeleton})
    if to_image is None:
        to_image = np.tile(np.eye(2, 3, dtype=np.float32), (len(images[0]), 1, 1))
    run = jax.jit(lambda *arguments: cid.inspect(model, *arguments, config))
    return model, variables, jax.device_get(run(variables, images, to_image))


# ---- Pieces


@pytest.mark.parametrize("side", [1, 3, 11])
def test_smoothed(side):
    maps = np.random.default_rng(0).random((2, 6, 9, 3), np.float32)
    rim = side // 2
    padded = np.pad(maps, ((0, 0), (rim, rim), (rim, rim), (0, 0)))
    want = np.zeros_like(maps)
    for y, x in np.ndindex(6, 9):
        mean = padded[:, y : y + side, x : x + side].sum((1, 2)) / side**2
        want[:, y, x] = (maps[:, y, x] + mean) / 2
    np.testing.assert_allclose(candidates.smoothed(maps, side), want, rtol=1e-5)


def slow_pose(heatmaps):
    """(x, y) in input pixels and the score of each keypoint of one person."""
    height, width, count = heatmaps.shape
    pose = []
    for k in range(count):
        heatmap = heatmaps[..., k]
        y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
        px, py = float(x), float(y)
        if 0 < x < width - 1:
            px += 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1])
        if 0 < y < height - 1:
            py += 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x])
        pose.append((4 * px + 2, 4 * py + 2, heatmap[y, x]))
    return np.array(pose)


def test_read_pose():
    rng = np.random.default_rng(1)
    heatmaps = rng.integers(0, 12, (30, 4, 5, 8)).astype(np.float32)  # small: borders, equals
    points, scores = candidates.read_pose(heatmaps)
    for image in range(30):
        want = slow_pose(heatmaps[image])
        np.testing.assert_array_equal(points[image], want[:, :2])
        np.testing.assert_array_equal(scores[image], want[:, 2])


def test_a_square_without_a_middle_is_refused():
    with pytest.raises(UserError, match=r"config\.eval\.smoothing is 4"):
        cid.check(tiny.config(**{"model.method": "cid", "eval.smoothing": 4}))


# ---- The whole procedure


def slow_candidates(model, variables, image, config):
    """(centre score, pose in network-input pixels, r) of one normalised image, best first."""
    views = [image, image[:, ::-1]] if config.eval.flip else [image]
    order = list(skeletons.of(config).flip_order)
    maps = []
    for number, view in enumerate(views):
        features = np.asarray(model.apply(variables, view[None], method="see"))
        features = features[:, :, ::-1] if number else features
        maps.append(model.apply(variables, features, method="heads"))

    def smooth(heatmap):
        return np.asarray(candidates.smoothed(heatmap[None], config.eval.smoothing))[0]

    centers = smooth(np.mean([m.heatmaps[0, ..., -1:] for m in maps], 0))[..., 0]
    padded = np.pad(centers, 1, constant_values=-1)
    found = []
    for y, x in np.ndindex(*centers.shape):
        if centers[y, x] < padded[y : y + 3, x : x + 3].max() or centers[y, x] <= 0.01:
            continue
        own = []
        for number, m in enumerate(maps):
            at = np.array([[x, y]], np.int32)
            heatmaps = model.apply(
                variables, m.reduced, m.features[:, y, x], at, method="instances"
            )
            own.append(np.asarray(heatmaps)[0][..., order] if number else np.asarray(heatmaps)[0])
        pose = slow_pose(smooth(np.mean(own, 0)))
        found.append((centers[y, x], pose[:, :2], pose[:, 2] * centers[y, x]))
    return sorted(found, key=lambda item: -item[0])[: config.eval.max_peaks]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"eval.flip": False, "eval.smoothing": 5},
        {"dataset.skeleton": "crowdpose", "eval.max_peaks": 4},
    ],
)
def test_candidates_against_loops(fields):
    fields = {"model.method": "cid", "eval.flip_shift": 0, "eval.max_peaks": 40} | fields
    config = tiny.config(**fields)
    images = random_images(config)
    to_image = np.array([[[1.5, 0.1, -20], [-0.2, 1.25, 3]]], np.float32)
    model, variables, seen = find(config, images, to_image)
    want = slow_candidates(model, variables, np.asarray(normalise(images[0][0])), config)
    found, valid = seen.candidates, seen.candidates.valid[0]
    assert valid.sum() == len(want) > 3
    for row, (score, pose, keypoint_scores) in enumerate(want):
        assert found.part_scores[0, row] == pytest.approx(score, rel=1e-4)
        in_image = pose @ to_image[0, :, :2].T + to_image[0, :, 2]
        np.testing.assert_allclose(found.poses[0, row], in_image, atol=1e-2)
        np.testing.assert_allclose(found.keypoint_scores[0, row], keypoint_scores, rtol=1e-3)
    assert not found.keypoint_scores[0][~valid].any()


def test_images_of_a_batch_do_not_meet():
    config = tiny.config(**{"model.method": "cid", "eval.max_peaks": 80})
    images = random_images(config, batch=3)
    _, _, together = find(config, images)
    counts = together.candidates.valid.sum(-1)
    assert len(set(counts)) > 1
    _, _, alone = find(config, tuple(image[1:2] for image in images))
    close = functools.partial(np.testing.assert_allclose, atol=1e-4)
    jax.tree.map(lambda a, b: close(a[1:2], b), together.candidates, alone.candidates)


def test_several_scales_are_in_one_frame():
    config = tiny.config(**{"model.method": "cid", "eval.scales": (1.0, 2.0), "eval.flip": False})
    coarse = np.kron(random_images(config)[0][0, ::8, ::8], np.ones((8, 8, 1))).astype(np.uint8)
    images = coarse[None], np.kron(coarse, np.ones((2, 2, 1), np.uint8))[None]
    _, _, seen = find(config, images)
    assert [maps.shape[1:3] for maps in seen.keypoint_heatmaps] == [(16, 24), (32, 48)]
    poses = seen.candidates.poses[0][seen.candidates.valid[0]]
    assert poses.max() < 96 + 4 and seen.candidates.valid[0][5:].any()
    best = [seen.candidates.part_scores[0, rows].max() for rows in (slice(5), slice(5, None))]
    assert best[0] == pytest.approx(best[1], rel=1e-5)
