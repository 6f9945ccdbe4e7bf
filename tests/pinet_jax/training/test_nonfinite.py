import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pinet_jax.config import load_config
from pinet_jax.training import nonfinite
from pinet_jax.training import step as training
from pinet_jax.training.step import TrainState
from pinet_jax.weights import reading

OPTIMIZER = optax.adam(1e-2)


@pytest.fixture
def state():
    leaf = jnp.arange(3.0)
    params = {"w": leaf}
    return TrainState(jnp.int32(0), params, {"m": leaf}, OPTIMIZER.init(params))


@jax.jit
def step(before, loss=1.0, gradient=1.0, statistic=1.0):
    """A guarded step of a batch that says these, and whether it was finite."""
    train = before.train
    gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), train.params)
    stats = jax.tree.map(lambda x: x + statistic, train.batch_stats)
    found = training.measured(gradients, stats, {"loss": jnp.float32(loss)})
    finite = found.metrics[training.FINITE]
    after = training.update(before, found.gradients, found.batch_stats, finite, optimizer=OPTIMIZER)
    return after, found.metrics


def test_a_finite_step_is_the_optimisers(state):
    new, metrics = step(training.guarded(state), gradient=2.0)
    updates, moments = OPTIMIZER.update({"w": jnp.full(3, 2.0)}, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    expected = TrainState(jnp.int32(1), params, {"m": state.batch_stats["m"] + 1}, moments)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), new.train, expected)
    assert new.failed_at == 0
    assert metrics[training.FINITE] and set(metrics) == {"loss", "gradient_norm", "finite"}
    assert metrics["gradient_norm"] == pytest.approx(np.sqrt(3 * 2.0**2))


@pytest.mark.parametrize(
    "bad",
    [
        {"loss": np.nan},
        {"loss": np.inf},
        {"gradient": np.nan},
        {"gradient": np.inf},
        {"statistic": np.inf},
    ],
)
def test_from_the_first_bad_step_on_the_state_is_held(state, bad):
    good, _ = step(training.guarded(state))
    held, metrics = step(good, **bad)
    assert not metrics[training.FINITE]
    later, metrics = step(held)
    assert metrics[training.FINITE]
    again, _ = step(later, **bad)
    for kept in (held, later, again):
        assert kept.failed_at == 2
        jax.tree.map(np.testing.assert_array_equal, kept.train, good.train)


def test_a_report_gives_back_state_and_batch(state, tmp_path):
    state = state.replace(step=np.int32(6))
    data = {"image": np.ones((2, 4), np.uint8), "image_id": np.array([11, 12])}
    position = {"seed": 3, "batch_size": 2}
    metrics = {"loss": np.float32(np.nan)}
    for _ in range(2):  # the second takes the place of the first
        folder = nonfinite.save_report(
            tmp_path, state, data, metrics, load_config("base"), position
        )
    assert folder == tmp_path / "nonfinite" / "7"
    jax.tree.map(np.testing.assert_array_equal, reading.load_state(folder, state), state)
    assert reading.read_position(folder) == position
    jax.tree.map(np.testing.assert_array_equal, nonfinite.load_batch(folder), data)
    report = json.loads((folder / "report.json").read_text())
    assert report == {"step": 7, "image_ids": [11, 12], "metrics": {"loss": "nan"}}

    assert nonfinite.earlier(tmp_path, 6) == folder
    assert nonfinite.earlier(tmp_path, 7) is None and nonfinite.earlier(folder, 0) is None
