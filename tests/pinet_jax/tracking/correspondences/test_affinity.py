"""The affinity is what section 1 says, cell by cell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinet_jax.config import load_config
from pinet_jax.tracking.correspondences import affinity, network

SCALE = 20.0


def slow_affinity(of_a, of_b, points, kind):
    """A of each point in pixels: loops over cells and taps."""
    height, width, _ = of_a.shape
    unit = slow_normalised(of_a, kind), slow_normalised(of_b, kind)
    maps = []
    for x, y in points:
        column, row = int(np.floor(x / 4)), int(np.floor(y / 4))
        if not (0 <= column < width and 0 <= row < height):
            maps.append(np.zeros((height, width)))
            continue
        logits = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                total = 0.0
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        a = row + di, column + dj
                        b = i + di, j + dj
                        if all(0 <= r < height and 0 <= c < width for r, c in (a, b)):
                            total += unit[0][a] @ unit[1][b]
                logits[i, j] = total if kind == "released" else SCALE * total / 9
        e = np.exp(logits - logits.max())
        maps.append(e / e.sum())
    return np.array(maps)


def slow_normalised(features, kind):
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / (length**2 if kind == "released" else length)


@pytest.mark.parametrize("kind", ["unit", "released"])
def test_the_fast_affinity_is_the_slow_one(kind):
    rng = np.random.default_rng(0)
    of_a, of_b = rng.normal(0, 1, (2, 5, 7, 4))
    points = np.array([[0, 0], [13, 9], [27.9, 19.9], [28, 3], [-0.1, 5], [4, 4]])
    net = network.of_joints(load_config("coco", {"tracking.normalise": kind}), 3)
    normal = [affinity.normalise(jnp.asarray(x, jnp.float32), kind) for x in (of_a, of_b)]
    cells = affinity.cells_of(jnp.asarray(points))
    queries = affinity.query_windows(normal[0][None], jnp.zeros(6, jnp.int32), cells)
    variables = {"params": {"scale": jnp.float32(SCALE)}}
    fast = net.apply(variables, queries.reshape(2, 3, -1), normal[1], method="affinity")
    slow = slow_affinity(of_a, of_b, points, kind)
    np.testing.assert_allclose(fast.reshape(6, 5, 7), slow, rtol=2e-4, atol=1e-7)
    assert np.asarray(fast).reshape(6, -1).sum(1) == pytest.approx([1, 1, 1, 0, 0, 1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 6), st.integers(0, 4))
def test_a_query_is_most_like_itself(column, row):
    features = jax.random.normal(jax.random.key(0), (5, 7, 8))
    normal = affinity.normalise(features, "unit")
    cell = jnp.array([[column, row]])
    query = affinity.query_windows(normal[None], jnp.zeros(1, jnp.int32), cell)
    found = affinity.similarity(query, normal)[0]
    assert jnp.unravel_index(found.argmax(), found.shape) == (row, column)


def test_zero_features_stay_finite():
    zeros = jnp.zeros((2, 3))
    for kind in ("unit", "released"):
        assert jnp.all(affinity.normalise(zeros, kind) == 0)
