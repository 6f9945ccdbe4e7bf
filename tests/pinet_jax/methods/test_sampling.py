"""Bilinear reads against loops over single points."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinet_jax.methods.sampling import read_pixels, sample_bilinear

SAMPLE = jax.jit(sample_bilinear, static_argnums=2)


def to_map_coordinate(c, size, convention):
    """Where a coordinate is read on an axis of `size` pixels."""
    if convention == "exact":
        return c
    normalised = 2 * c / max(size - 1, 1) - 1  # aligned corners in ...
    return ((normalised + 1) * size - 1) / 2  # ... half-pixel centres out


def slow_sample(image, x, y, convention):
    """Bilinear value of one [h, w, c] map at one point, zero outside."""
    height, width, channels = image.shape
    x = to_map_coordinate(np.float64(x), width, convention)
    y = to_map_coordinate(np.float64(y), height, convention)
    total = np.zeros(channels)
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(x - column)) * (1 - abs(y - row)) * image[row, column]
    return total


def assert_samples(maps, points, convention):
    found = np.asarray(SAMPLE(maps, points, convention))
    assert found.shape == (*points.shape[:-1], maps.shape[-1])
    for index in np.ndindex(points.shape[:-1]):
        want = slow_sample(maps[index[0]], *points[index], convention)
        np.testing.assert_allclose(found[index], want, atol=2e-5, err_msg=str(points[index]))


def random_maps(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("convention", ["released", "exact"])
def test_points_inside_at_the_border_and_outside(convention):
    maps = random_maps((2, 5, 7, 3))
    x = [-1e6, -2, -1, -0.5, -1e-3, 0, 0.25, 3, 5.9, 6, 6.5, 7, 8, 1e6]
    y = [-3, -0.7, 0, 1.5, 3.99, 4, 4.4, 5, 6]
    grid = np.stack(np.meshgrid(x, y), axis=-1).astype(np.float32)
    assert_samples(maps, np.broadcast_to(grid, (2, *grid.shape)), convention)


@pytest.mark.parametrize("convention", ["released", "exact"])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 1)])
def test_maps_of_one_pixel(convention, size):
    points = np.array([[[0, 0], [0.5, 0], [0, -0.25], [1, 1], [2.5, 0.5]]], np.float32)
    assert_samples(random_maps((1, *size, 2)), points, convention)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["released", "exact"]))
def test_any_points(seed, convention):
    rng = np.random.default_rng(seed)
    maps = random_maps((2, 6, 9, 2), seed)
    assert_samples(maps, rng.uniform(-4, 13, (2, 8, 2)).astype(np.float32), convention)


def test_exact_reads_pixels_at_whole_coordinates():
    maps = random_maps((2, 3, 4, 5))
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(3)), axis=-1).astype(np.float32)
    found = SAMPLE(maps, np.broadcast_to(grid, (2, *grid.shape)), "exact")
    np.testing.assert_allclose(found, maps, atol=1e-6)


def test_released_reads_the_middle_of_the_map_exactly():
    """The mis-scaling is about the middle; at the first pixel half a pixel is lost."""
    maps = random_maps((1, 5, 5, 1))
    found = SAMPLE(maps, np.array([[[2, 2], [0, 2]]], np.float32), "released")
    np.testing.assert_allclose(found[0, 0], maps[0, 2, 2], atol=1e-6)
    np.testing.assert_allclose(found[0, 1], maps[0, 2, 0] / 2, atol=1e-6)


def test_gradient_reaches_the_maps():
    maps, points = random_maps((1, 4, 4, 1)), np.array([[[1.25, 2.5]]], np.float32)
    gradient = jax.jit(jax.grad(lambda m: sample_bilinear(m, points, "exact").sum()))(maps)[
        0, :, :, 0
    ]
    want = np.zeros((4, 4))
    want[2:4, 1:3] = [[0.375, 0.125], [0.375, 0.125]]
    np.testing.assert_allclose(gradient, want, atol=1e-6)


def test_read_pixels():
    maps = random_maps((2, 3, 4, 2, 5))
    index = np.array([[0, 11, 5], [7, 7, 2]])
    found = np.asarray(read_pixels(maps, index))
    for b, n in np.ndindex(index.shape):
        np.testing.assert_array_equal(found[b, n], maps[b, index[b, n] // 4, index[b, n] % 4])
