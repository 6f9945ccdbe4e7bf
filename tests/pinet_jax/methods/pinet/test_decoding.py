import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinet_jax.export import pinet_onnx
from pinet_jax.methods.pinet import decoding

FIND_PEAKS = jax.jit(decoding.find_peaks, static_argnums=(1, 2, 3))
PEAK_WINDOWS = (3, 5, 7), (200.0, 300.0)


def slow_peaks(heatmap, max_peaks, threshold):
    """(x, y, score) of the peaks of one [h, w] heatmap, the highest first."""
    height, width = heatmap.shape
    side = (height + width) / 2
    reach = 3 if side > 300 else 2 if side > 200 else 1
    found = []
    for y in range(height):
        for x in range(width):
            around = heatmap[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
            if heatmap[y, x] == around.max() and heatmap[y, x] > threshold:
                found.append((x, y, heatmap[y, x]))
    return sorted(found, key=lambda peak: -peak[2])[:max_peaks]


def assert_peaks(heatmaps, max_peaks, threshold):
    batch, height, width, parts = heatmaps.shape
    window = decoding.peak_window(height, width, *PEAK_WINDOWS)
    peaks = FIND_PEAKS(heatmaps, max_peaks, threshold, window)
    for b in range(batch):
        for s in range(parts):
            want = slow_peaks(heatmaps[b, :, :, s], max_peaks, threshold)
            valid = np.asarray(peaks.valid[b, s])
            assert valid.sum() == len(want)
            assert valid[: len(want)].all()
            np.testing.assert_array_equal(
                peaks.centers[b, s][valid], np.reshape([p[:2] for p in want], (-1, 2))
            )
            np.testing.assert_array_equal(peaks.scores[b, s][valid], [p[2] for p in want])
            assert not peaks.scores[b, s][~valid].any()
    assert (peaks.centers >= 0).all()
    assert (peaks.centers < np.array([width, height])).all()


@given(st.integers(0, 2**31), st.sampled_from([1, 5, 50]))
@settings(deadline=None, max_examples=10)
def test_find_peaks_against_loops(seed, levels):
    # Few levels make plateaus, which give many equal peaks.
    rng = np.random.default_rng(seed)
    heatmaps = rng.integers(-levels, levels + 1, (2, 9, 12, 3)).astype(np.float32) / levels
    assert_peaks(heatmaps, 6, 0.01)


@pytest.mark.parametrize(
    ("height", "width", "window"),
    [(200, 200, 3), (200, 202, 5), (16, 385, 5), (300, 300, 5), (300, 302, 7), (1, 700, 7)],
)
def test_window_grows_with_the_map(height, width, window):
    assert decoding.peak_window(height, width, *PEAK_WINDOWS) == window
    assert pinet_onnx.peak_window(height, width, *PEAK_WINDOWS) == window
    assert decoding.peak_window(height, width, (9,), ()) == 9


@pytest.mark.parametrize(("height", "width"), [(2, 410), (3, 610)])
def test_find_peaks_on_larger_windows(height, width):
    heatmaps = np.random.default_rng(1).random((1, height, width, 1), np.float32)
    assert_peaks(heatmaps, 400, 0.01)


def test_map_smaller_than_the_number_of_peaks():
    heatmaps = np.zeros((1, 2, 3, 1), np.float32)
    heatmaps[0, 1, 2] = 0.5
    peaks = FIND_PEAKS(heatmaps, 30, 0.01, 3)
    assert peaks.scores.shape == (1, 1, 6)
    np.testing.assert_array_equal(peaks.centers[0, 0, 0], [2, 1])
    assert peaks.valid.sum() == 1


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
