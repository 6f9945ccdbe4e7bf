"""Fresh weights: drawn as Flax's own initialisers draw them, and the same for a seed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError

from pinet_jax.backbones import initializers
from pinet_jax.backbones.layers import CONV_INITS, Conv

KERNEL = (3, 3, 40, 64)
OWN = nn.initializers.variance_scaling


def drawn(initializer, shape=KERNEL, seed=0):
    return initializers.draw(initializer(None, shape), seed)


@pytest.mark.parametrize(
    ("initializer", "flax"),
    [
        (initializers.normal(0.3), nn.initializers.normal(0.3)),
        (initializers.scaled_normal(2.0, "out"), OWN(2.0, "fan_out", "normal")),
        (initializers.scaled_normal(1.0, "in"), OWN(1.0, "fan_in", "normal")),
        (initializers.scaled_normal(1.5, "avg"), OWN(1.5, "fan_avg", "normal")),
        (initializers.scaled_uniform(1 / 3, "in"), OWN(1 / 3, "fan_in", "uniform")),
        (initializers.scaled_uniform(1.414**2, "avg"), OWN(1.414**2, "fan_avg", "uniform")),
    ],
)
def test_they_draw_from_flaxs_distributions(initializer, flax):
    found, want = drawn(initializer), np.asarray(flax(jax.random.key(0), KERNEL))
    assert found.shape == want.shape and found.dtype == want.dtype == np.float32
    assert found.std() == pytest.approx(want.std(), rel=0.02)
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        allowed = 0.05 * float(want.std())
        assert np.quantile(found, share) == pytest.approx(np.quantile(want, share), abs=allowed)
    assert np.abs(found).max() == pytest.approx(np.abs(want).max(), rel=0.3)


def test_a_bound_holds():
    found = drawn(initializers.uniform(0.25))
    assert 0.249 < np.abs(found).max() <= 0.25
    assert found.std() == pytest.approx(0.25 / 3**0.5, rel=0.02)


def test_numbers_that_are_given():
    assert (drawn(initializers.constant(0.5), ()) == 0.5).all()
    assert not drawn(initializers.zeros).any() and (drawn(initializers.ones) == 1).all()
    start = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(drawn(initializers.drawn_by(lambda *_: start), (2, 3)), start)


class Net(nn.Module):
    """Two convolutions of one shape, and three more of it stacked."""

    @nn.compact
    def __call__(self, x):
        stacked = nn.vmap(Conv, in_axes=0, variable_axes={"params": 0}, split_rngs={"params": True})
        he = CONV_INITS["he"]
        x = Conv(8, name="b", kernel_init=he)(Conv(8, name="a", kernel_init=he)(x))
        return stacked(8, kernel_init=he, name="rows")(jnp.stack([x] * 3))


def variables(seed=0):
    undrawn = initializers.undrawn(Net(), jnp.zeros((1, 4, 4, 8)))
    drawn = initializers.draw(undrawn, seed)["params"]
    return {name: layer["conv"]["kernel"] for name, layer in drawn.items()}


def test_a_seed_always_draws_the_same():
    jax.tree.map(np.testing.assert_array_equal, variables(7), variables(7))
    same = jax.tree.map(np.array_equal, variables(7), variables(8))
    assert not any(jax.tree.leaves(same))


def test_arrays_of_one_shape_are_not_the_same():
    found = variables()
    kernels = [found["a"], found["b"], *found["rows"]]
    assert len({kernel.tobytes() for kernel in kernels}) == 5


def test_a_row_of_a_stack_is_drawn_as_if_it_were_alone():
    found = variables()
    assert found["rows"].shape == (3, *found["a"].shape)
    for row in found["rows"]:
        assert row.std() == pytest.approx((2 / (9 * 8)) ** 0.5, rel=0.1)


def test_another_initialiser_is_refused():
    undrawn = initializers.undrawn(nn.Dense(2), jnp.zeros((1, 3)))
    with pytest.raises(TypeError, match=r"'kernel'.*not of this file"):
        initializers.draw({"params": {"kernel": undrawn["params"]["kernel"]}}, 0)


@pytest.mark.parametrize("seed", [-1, 2**40, 2**64 + 5])
def test_any_number_is_a_seed(seed):
    assert np.isfinite(drawn(initializers.normal(1.0), (3, 4), seed)).all()


def test_weights_of_another_shape_are_refused():
    x = jnp.zeros((1, 4, 4, 8))
    layer = Conv(8)
    kernel = drawn(initializers.normal(1.0), (3, 3, 4, 8))
    with pytest.raises(ScopeParamShapeError, match="kernel"):
        layer.apply({"params": {"conv": {"kernel": kernel}}}, x)
