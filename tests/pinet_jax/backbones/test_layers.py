"""Layers with gradients or forms of their own: against JAX's, and as lowered."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax.backbones.by_platform import choose
from pinet_jax.backbones.layers import BatchNorm, Conv, convolve, relu

TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2}


def normal(*shape, seed=0, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def plain(x, kernel, strides, padding):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=dimensions)


def gradients(convolution, x, kernel, stride, pad, seed=2):
    """Of a random weighting of the output, with regard to x and kernel."""

    def loss(x, kernel):
        y = convolution(x, kernel, (stride, stride), ((pad, pad), (pad, pad)))
        return (y * normal(*y.shape, seed=seed, dtype=y.dtype)).sum(dtype=jnp.float32)

    return jax.jit(jax.grad(loss, (0, 1)))(x, kernel)


def check_close(found, want, dtype):
    found, want = (np.asarray(x, np.float32) for x in (found, want))
    np.testing.assert_allclose(found, want, atol=TOLERANCES[dtype] * np.abs(want).max())


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [(1, 8, 8, 4, 6), (3, 7, 5, 4, 6), (2, 1, 9, 5, 1)])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (5, 1)])
def test_it_and_its_gradients_are_those_of_the_plain_convolution(dtype, shape, size, stride):
    batch, height, width, channels, features = shape
    x = normal(batch, height, width, channels, dtype=dtype)
    kernel = normal(size, size, channels, features, seed=1, dtype=dtype)
    pad = (size - 1) // 2
    how = (stride, stride), ((pad, pad), (pad, pad))
    y = jax.jit(lambda *arguments: convolve(*arguments, *how))(x, kernel)
    assert y.dtype == dtype
    check_close(y, plain(x, kernel, *how), dtype)
    found = gradients(convolve, x, kernel, stride, pad)
    want = gradients(plain, x, kernel, stride, pad)
    for a, b in zip(found, want, strict=True):
        assert a.dtype == b.dtype == dtype
        check_close(a, b, dtype)


def test_a_3x3_convolution_without_padding_has_the_usual_gradient():
    x, kernel = normal(1, 6, 7, 2), normal(3, 3, 2, 3, seed=1)
    for a, b in zip(*(gradients(f, x, kernel, 1, 0) for f in (convolve, plain)), strict=True):
        check_close(a, b, "float32")


@pytest.mark.parametrize("size", [1, 3])
def test_gradients_under_vmap_are_those_of_each_alone(size):
    x, kernel = normal(4, 2, 6, 5, 3), normal(size, size, 3, 2, seed=1)
    pad = (size - 1) // 2
    together = jax.vmap(lambda x: gradients(convolve, x, kernel, 1, pad))(x)
    for i in range(4):
        alone = gradients(plain, x[i], kernel, 1, pad)
        for a, b in zip(together, alone, strict=True):
            check_close(a[i], b, "float32")


def test_relu_and_its_gradient():
    x = jnp.array([-2.0, -0.0, 0.0, 3.0, jnp.inf, -jnp.inf, jnp.nan])
    np.testing.assert_array_equal(relu(x), jax.nn.relu(x))
    for function in (relu, jax.nn.relu):
        slopes = jax.vmap(jax.grad(function))(x[:-1])
        np.testing.assert_array_equal(slopes, [0, 0, 0, 1, 1, 0])
    y, tangent = jax.jvp(relu, (x[:-1],), (jnp.arange(6.0),))
    np.testing.assert_array_equal(tangent, [0, 0, 0, 3, 4, 0])
    np.testing.assert_array_equal(y, jax.nn.relu(x[:-1]))


def obvious_batch_norm(variables, x, mask):
    """Of float64, as a person would write it, for JAX to differentiate."""
    weight = np.ones(x.shape[:-1]) if mask is None else np.asarray(mask)
    axes = tuple(range(x.ndim - 1))
    count = max(weight.sum(), 1)
    mean = (x * weight[..., None]).sum(axes) / count
    var = ((x - mean) ** 2 * weight[..., None]).sum(axes) / count
    return (x - mean) / jnp.sqrt(var + 1e-5) * variables["scale"] + variables["bias"]


@pytest.mark.parametrize("kept", ["all", "some", "none"])
def test_gradients_of_a_batch_normalisation(kept):
    share = {"all": None, "some": 0.6, "none": 0}[kept]
    mask = None if share is None else np.random.default_rng(3).random((2, 6, 5)) < share
    arguments = {"scale": normal(4, seed=1), "bias": normal(4, seed=2)}, 3 + 2 * normal(2, 6, 5, 4)
    weights = normal(2, 6, 5, 4, seed=4)  # also of what the mask leaves out

    def loss(params, x):
        variables = {"params": params, "batch_stats": {"mean": jnp.zeros(4), "var": jnp.ones(4)}}
        y, _ = BatchNorm().apply(variables, x, True, mask, mutable=["batch_stats"])
        return (y * weights).sum()

    def obvious(params, x):
        return (obvious_batch_norm(params, x, mask) * weights).sum()

    found = jax.jit(jax.grad(loss, (0, 1)))(*arguments)
    with jax.enable_x64(True):
        want = jax.grad(obvious, (0, 1))(
            *jax.tree.map(lambda x: jnp.asarray(x, "float64"), arguments)
        )
    for a, b in zip(*map(jax.tree.leaves, (found, want)), strict=True):
        check_close(a, b, "float32")


def test_a_bfloat16_map_is_normalised_in_float32():
    x, weights = (3 + 2 * normal(2, 6, 5, 4)).astype("bfloat16"), normal(2, 6, 5, 4, seed=4)
    params = {"scale": normal(4, seed=1), "bias": normal(4, seed=2)}

    def loss(params, x):
        variables = {"params": params, "batch_stats": {"mean": jnp.zeros(4), "var": jnp.ones(4)}}
        y, _ = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
        assert y.dtype == x.dtype
        return (y * weights).sum(dtype=jnp.float32)

    found, want = (jax.grad(loss, (0, 1))(params, x.astype(d)) for d in ("bfloat16", "float32"))
    assert found[1].dtype == "bfloat16"
    for a, b in zip(*map(jax.tree.leaves, (found, want)), strict=True):
        check_close(a, b, "bfloat16")


def operations(function, platform, *arguments):
    """How often a program has which operation, the functions that it calls included."""
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    bodies = re.split(r"func\.func \w+ @(\w+)", text)[1:]
    bodies = dict(zip(bodies[::2], bodies[1::2], strict=True))

    def count(name):
        total = collections.Counter(re.findall(r"stablehlo\.(\w+)", bodies[name]))
        for called in re.findall(r"call @(\w+)", bodies[name]):
            total += count(called)
        return total - collections.Counter({"constant": total["constant"]})

    return count("main")


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_accelerators_get_the_operations_of_the_plain_convolution(platform, size, stride):
    x, kernel = normal(2, 8, 8, 4), normal(size, size, 4, 4, seed=1)

    def block(convolution, activation):
        def loss(x, kernel):
            pad = ((size // 2, size // 2),) * 2
            return activation(convolution(x, kernel, (stride, stride), pad)).sum()

        return jax.value_and_grad(loss, (0, 1))

    ours = operations(block(convolve, relu), platform, x, kernel)
    assert ours == operations(block(plain, jax.nn.relu), platform, x, kernel)
    assert ours["maximum"] == 1 and ours["convolution"] == 3
    here = operations(block(convolve, relu), "cpu", x, kernel)
    assert here["maximum"] == 0 and here["convolution"] == (0 if size == 1 else 3)


def test_a_program_of_every_platform_has_both_forms():
    def function(x):
        return choose(lambda x: x + 1, lambda x: x + 2, x)

    exported = jax.export.export(jax.jit(function), platforms=("cpu", "cuda"))(jnp.zeros(2))
    np.testing.assert_array_equal(exported.call(jnp.zeros(2)), 2)
    assert "stablehlo.case" in exported.mlir_module()


def test_choices_map_over_any_axis():
    def function(x, y):
        return choose(lambda x, y: x - y, lambda x, y: x - y, x, y)

    x, y = normal(3, 4), normal(4, seed=1)
    np.testing.assert_array_equal(jax.vmap(function, (1, 0))(x, y), (x - y).T)
    np.testing.assert_array_equal(jax.vmap(function, (1, None))(x, jnp.array(2.0)), x.T - 2)


def test_the_layer_uses_it():
    x = normal(1, 8, 8, 4)
    conv = Conv(3)
    variables = jax.jit(conv.init)(jax.random.key(0), x)

    def loss(variables):
        return conv.apply(variables, x).sum()

    cpu, cuda = (operations(jax.grad(loss), platform, variables) for platform in ("cpu", "cuda"))
    assert cpu["concatenate"] == 1 and cuda["concatenate"] == 0
