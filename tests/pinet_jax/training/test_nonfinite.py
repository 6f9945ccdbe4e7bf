import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax.config import load_config
from pinet_jax.training import nonfinite
from pinet_jax.training import step as training
from pinet_jax.training.step import TrainState
from pinet_jax.weights import reading


def step(state, batch):
    """Adds the batch to everything."""
    add = functools.partial(jax.tree.map, lambda x: x + batch["x"])
    new = TrainState(
        state.step + 1, add(state.params), add(state.batch_stats), add(state.opt_state)
    )
    return new, {"loss": batch["loss"], "gradient_norm": batch["norm"]}


def batch(x=1.0, loss=1.0, norm=1.0):
    return {"x": jnp.float32(x), "loss": jnp.float32(loss), "norm": jnp.float32(norm)}


@pytest.fixture
def state():
    leaf = jnp.arange(3.0)
    return TrainState(jnp.int32(0), {"w": leaf}, {"m": leaf}, (leaf, jnp.int32(4)))


def test_a_finite_step_is_unchanged(state):
    new, metrics = jax.jit(training.guard(step))(training.guarded(state), batch())
    expected, _ = step(state, batch())
    jax.tree.map(np.testing.assert_array_equal, new.train, expected)
    assert new.failed_at == 0
    assert metrics[training.FINITE] and set(metrics) == {"loss", "gradient_norm", "finite"}


@pytest.mark.parametrize(
    "bad",
    [{"loss": np.nan}, {"loss": np.inf}, {"norm": np.nan}, {"norm": np.inf}, {"x": np.inf}],
)
def test_from_the_first_bad_step_on_the_state_is_held(state, bad):
    """The last case is of the running statistics alone."""
    guarded = jax.jit(training.guard(step))
    good, _ = guarded(training.guarded(state), batch())
    held, metrics = guarded(good, batch(**bad))
    assert not metrics[training.FINITE]
    later, metrics = guarded(held, batch())
    assert metrics[training.FINITE]
    again, _ = guarded(later, batch(**bad))
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
