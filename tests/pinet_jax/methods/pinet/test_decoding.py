import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax.methods.pinet import decoding


def test_read_poses():
    rng = np.random.default_rng(2)
    offsets = rng.normal(size=(2, 4, 5, 3, 6, 2)).astype(np.float32)
    centers = np.stack(
        [rng.integers(0, 5, (2, 3, 7)), rng.integers(0, 4, (2, 3, 7))], -1, dtype=np.int32
    )
    poses = decoding.read_poses(jnp.asarray(offsets), jnp.asarray(centers))
    for b, s, p in np.ndindex(2, 3, 7):
        x, y = centers[b, s, p]
        np.testing.assert_allclose(poses[b, s, p], [x, y] - offsets[b, y, x, s], rtol=1e-6)


def up_sample(heatmap, factor, size):
    """Aligned-corner bilinear up-sampling of [h, w], last row and column repeated."""
    height, width = heatmap.shape

    def matrix(source, target):
        at = np.minimum(np.arange(target) / factor, source - 1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(source)))

    return matrix(height, size[0]) @ heatmap @ matrix(width, size[1]).T


def released_score(full, x, y):
    """The released read of the full-resolution map [h, w] at (x, y)."""
    i, j = int(x), int(y)
    if i < 0 or j < 0 or i + 1 >= full.shape[1] or j + 1 >= full.shape[0]:
        return 0.0
    fx, fy = x - i, y - j
    top = (1 - fx) * full[j, i] + fx * full[j, i + 1]
    bottom = (1 - fx) * full[j + 1, i] + fx * full[j + 1, i + 1]
    return (1 - fy) * top + fy * bottom


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0), (2.0,)])
def test_keypoint_scores_against_up_sampling(scales):
    """Reading each scale's own map equals the released read of the up-sampled average."""
    rng = np.random.default_rng(3)
    size, keypoints = (24, 40), 3
    heatmaps = [
        rng.normal(size=(2, int(size[0] * s / 4), int(size[1] * s / 4), keypoints)) for s in scales
    ]
    poses = rng.uniform(-6, 46, (2, 60, keypoints, 2)).astype(np.float32)
    poses[:, :20] = rng.integers(-2, 42, (2, 20, keypoints, 2))  # whole pixels
    poses[:, 20:40] = rng.uniform(-1.2, 0.2, (2, 20, keypoints, 2))  # extrapolated
    poses[:, 40:50, :, 0] = rng.uniform(34, 41, (2, 10, keypoints))  # last columns
    heatmaps = [h.astype(np.float32) for h in heatmaps]
    scores = jax.jit(decoding.keypoint_scores, static_argnums=(1, 3))(heatmaps, scales, poses, size)
    want = np.zeros(scores.shape)
    for b, k in np.ndindex(2, keypoints):
        full = np.mean(
            [up_sample(h[b, :, :, k], 4 / s, size) for h, s in zip(heatmaps, scales, strict=True)],
            axis=0,
        )
        for n in range(poses.shape[1]):
            want[b, n, k] = released_score(full, *poses[b, n, k].astype(np.float64))
    assert 0.2 < (want == 0).mean() < 0.8
    np.testing.assert_allclose(scores, want, atol=2e-5)


@pytest.mark.parametrize("wild", [np.nan, np.inf, -np.inf, 1e30])
def test_wild_coordinates_score_zero(wild):
    heatmaps = jnp.ones((1, 4, 4, 1), jnp.float32)
    poses = jnp.full((1, 1, 1, 2), wild, jnp.float32)
    assert decoding.keypoint_scores([heatmaps], (1.0,), poses, (16, 16)) == 0


def test_one_pixel_map():
    heatmaps = jnp.full((1, 1, 1, 1), 3, jnp.float32)
    poses = jnp.array([[[[0, 0]], [[2.5, 1]], [[3, 0]]]], jnp.float32)
    scores = decoding.keypoint_scores([heatmaps], (1.0,), poses, (4, 4))
    np.testing.assert_array_equal(scores[0, :, 0], [3, 3, 0])
