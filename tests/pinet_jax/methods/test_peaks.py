"""Peaks of score maps against loops over their pixels."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinet_jax.export import pinet_onnx
from pinet_jax.methods.peaks import find_peaks, peak_window

FIND_PEAKS = jax.jit(find_peaks, static_argnums=(1, 2, 3))
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
    window = peak_window(height, width, *PEAK_WINDOWS)
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
    assert peak_window(height, width, *PEAK_WINDOWS) == window
    assert pinet_onnx.peak_window(height, width, *PEAK_WINDOWS) == window
    assert peak_window(height, width, (9,), ()) == 9


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
