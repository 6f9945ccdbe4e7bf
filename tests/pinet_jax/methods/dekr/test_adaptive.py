"""The adaptive block against slow NumPy, its gradients, and where it starts."""

import jax
import jax.numpy as jnp
import numpy as np

from pinet_jax.backbones import initializers
from pinet_jax.methods.dekr import adaptive

HEIGHT, WIDTH, CHANNELS = 5, 7, 3


def reference_read(x, points):
    """Point by point, corner by corner."""
    x, points = np.asarray(x), np.asarray(points)
    read = np.zeros((len(points), x.shape[-1]))
    for n, (py, px) in enumerate(points):
        for y in (int(np.floor(py)), int(np.floor(py)) + 1):
            for column in (int(np.floor(px)), int(np.floor(px)) + 1):
                if 0 <= y < x.shape[0] and 0 <= column < x.shape[1]:
                    weight = (1 - abs(py - y)) * (1 - abs(px - column))
                    read[n] += weight * x[y, column]
    return read


def a_map(seed=0):
    return jax.random.normal(jax.random.key(seed), (HEIGHT, WIDTH, CHANNELS))


def some_points(seed=1, count=400):
    """Inside, over the rim, far outside, and on whole pixels."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-3, -3], [HEIGHT + 2, WIDTH + 2], (count, 2))
    points[:50] = np.round(points[:50])
    points[50:60] *= 1e6
    return jnp.array(points, jnp.float32)


def test_reads_are_bilinear_and_zero_outside():
    x, points = a_map(), some_points()
    found = jax.jit(adaptive.read)(x, points)
    np.testing.assert_allclose(found, reference_read(x, points), atol=1e-5)


def test_gradients_are_those_of_the_same_reads_written_plainly():
    x = a_map()
    points = some_points(count=200)[60:]  # where there is a gradient

    def plain(x, points):
        y = jnp.arange(HEIGHT)[:, None, None]
        column = jnp.arange(WIDTH)[:, None]
        weight_y = jnp.maximum(0, 1 - jnp.abs(points[:, 0] - y))
        weight_x = jnp.maximum(0, 1 - jnp.abs(points[:, 1] - column))
        return jnp.einsum("ywn,ywc->nc", weight_y * weight_x, x)

    def loss(read):
        return lambda x, points: (jnp.sin(read(x, points)) * jnp.arange(1, 4)).sum()

    found = jax.jit(jax.grad(loss(adaptive.read), (0, 1)))(x, points)
    wanted = jax.jit(jax.grad(loss(plain), (0, 1)))(x, points)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_on_a_whole_pixel_the_gradient_goes_to_the_next():
    x = a_map()
    gradient = jax.grad(lambda points: adaptive.read(x, points).sum())(jnp.array([[2.0, 3.0]]))
    want = [(x[3, 3] - x[2, 3]).sum(), (x[2, 4] - x[2, 3]).sum()]
    np.testing.assert_allclose(gradient[0], want, rtol=1e-4)


def test_points_are_the_turned_taps_of_each_pixel():
    rng = np.random.default_rng(0)
    matrix = jnp.array(rng.normal(size=(1, HEIGHT, WIDTH, 2, 2)), jnp.float32)
    shift = jnp.array(rng.normal(size=(1, HEIGHT, WIDTH, 2)), jnp.float32)
    found = adaptive.tap_points(matrix, shift)
    for y, x, tap in ((0, 0, 0), (4, 6, 8), (2, 3, 5)):
        want = np.array([y, x]) + matrix[0, y, x] @ adaptive.TAPS[tap] + shift[0, y, x]
        np.testing.assert_allclose(found[0, y, x, tap], want, rtol=1e-5)


def test_identity_taps_make_an_ordinary_convolution():
    x = a_map()[None]
    identity = jnp.broadcast_to(jnp.eye(2), (1, HEIGHT, WIDTH, 2, 2))
    points = adaptive.tap_points(identity, jnp.zeros((1, HEIGHT, WIDTH, 2)))
    model = adaptive.AdaptiveConv(4, use_bias=False)
    variables = initializers.draw(initializers.undrawn(model, x, points), seed=0)
    kernel = jnp.asarray(variables["params"]["kernel"] * 1000)
    found = model.apply({"params": {"kernel": kernel}}, x, points)
    want = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(found, want, atol=1e-3)


def test_a_fresh_block_reads_next_to_the_pixel_itself():
    x = a_map()[None]
    block = adaptive.AdaptiveBlock(None)
    params = initializers.draw(initializers.undrawn(block, x, False), seed=0)["params"]
    bound = (9 * CHANNELS) ** -0.5
    kernel = params["adapt"]["kernel"]
    assert kernel.shape == (3, 3, CHANNELS, CHANNELS)
    assert 0.8 * bound < np.abs(kernel).max() <= bound
    for name in ("matrix", "translation"):
        assert np.abs(params[name]["kernel"]).max() < 0.01
        assert not params[name]["bias"].any()
