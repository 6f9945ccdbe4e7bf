import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from pinet_jax.checkpoints import Checkpoints, load_config, load_variables, save_config
from pinet_jax.config import load_config as load_config_file
from pinet_jax.errors import UserError


@struct.dataclass
class State:
    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any


def make_state(step: int, width: int = 3) -> State:
    keys = jax.random.split(jax.random.key(step), 3)
    params = {
        "conv": {"kernel": jax.random.normal(keys[0], (2, width))},
        "graph/a.b": {"bias": jax.random.normal(keys[1], (width,), jnp.bfloat16)},
    }
    batch_stats = {"bn": {"mean": jax.random.normal(keys[2], (4,))}}
    optimizer = optax.chain(optax.clip(1.0), optax.adam(1e-3))
    return State(jnp.int32(step), params, batch_stats, optimizer.init(params))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.fixture
def config():
    return load_config_file("base", {"eval.scales": (0.5, 1.0), "model.width": 18})


@pytest.fixture
def workdir(tmp_path, config):
    save_config(tmp_path / "run", config)
    return tmp_path / "run"


def test_a_state_comes_back_as_it_was(workdir):
    state = make_state(7)
    with Checkpoints(workdir, keep=2) as checkpoints:
        assert checkpoints.latest_step() is None
        checkpoints.save(state)
        checkpoints.wait()
        assert checkpoints.latest_step() == 7
    with Checkpoints(workdir, keep=2) as checkpoints:
        restored = checkpoints.restore(make_state(0))
        assert_same(restored, state)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(restored))
        assert_same(checkpoints.restore(jax.eval_shape(lambda: make_state(0))), state)


def test_only_the_newest_are_kept_and_any_of_them_can_be_read(workdir):
    with Checkpoints(workdir, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(make_state(step))
        checkpoints.save(make_state(3))  # already there
        checkpoints.wait()
        assert_same(checkpoints.restore(make_state(0), step=2), make_state(2))
        with pytest.raises(UserError, match=r"No checkpoint '.*/1'"):
            checkpoints.restore(make_state(0), step=1)


def test_a_state_may_be_donated_as_soon_as_save_returns(workdir):
    state = make_state(5)
    expected = jax.tree.map(np.array, state)
    zero = jax.jit(lambda s: jax.tree.map(jnp.zeros_like, s), donate_argnums=0)
    with Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.save(state)
        zero(state)
        checkpoints.wait()
        assert_same(checkpoints.restore(expected), expected)


def test_variables_and_config_are_read_without_the_state(workdir, config):
    with Checkpoints(workdir, keep=2) as checkpoints:
        checkpoints.save(make_state(4))
        checkpoints.save(make_state(12))
    for path, step in ((workdir, 12), (workdir / "checkpoints" / "4", 4)):
        read_config, variables = load_variables(path)
        assert read_config == config and read_config.eval.scales == (0.5, 1.0)
        state = make_state(step)
        assert_same(variables, {"params": state.params, "batch_stats": state.batch_stats})


def test_an_unfinished_checkpoint_is_not_the_newest(workdir):
    with Checkpoints(workdir, keep=2) as checkpoints:
        checkpoints.save(make_state(4))
    (workdir / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()
    assert_same(load_variables(workdir)[1]["params"], make_state(4).params)
    with Checkpoints(workdir, keep=2) as checkpoints:
        assert checkpoints.latest_step() == 4


def test_any_mapping_with_step_and_variables_is_a_state(workdir):
    state = {"step": np.array(0), "params": {"w": np.ones(2)}, "batch_stats": {}}
    with Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.save(state)
    assert_same(load_variables(workdir)[1], {"params": state["params"], "batch_stats": {}})


def test_another_configs_checkpoint_names_the_entries_that_differ(workdir):
    with Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.save(make_state(1))
        with pytest.raises(UserError) as error:
            checkpoints.restore(make_state(1, width=5))
        message = str(error.value)
        assert "params/conv/kernel is (2,3) there and (2,5) here" in message
        assert "params/graph/a.b/bias is (3,) there and (5,) here" in message
        assert "use the config it was trained with" in message and "\n" not in message

        other = make_state(1)
        other = other.replace(params={"stem": other.params["conv"]})
        with pytest.raises(UserError, match=r"params/stem/kernel is absent there and \(2,3\)"):
            checkpoints.restore(other)


@pytest.mark.parametrize("item", ["variables", "training", "config"])
def test_a_damaged_checkpoint_is_reported_by_name(workdir, item, caplog):
    with Checkpoints(workdir, keep=2) as checkpoints:
        checkpoints.save(make_state(1))
        checkpoints.save(make_state(2))
        checkpoints.wait()
        files = (workdir / "checkpoints/2" / item).rglob("*")
        for path in filter(pathlib.Path.is_file, files):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match=rf"checkpoints/2' is damaged \(its {item}"):
            checkpoints.restore(make_state(0)) if item == "training" else load_variables(workdir)
        assert_same(checkpoints.restore(make_state(0), step=1), make_state(1))


def test_no_checkpoint_is_an_error(workdir, tmp_path):
    with Checkpoints(workdir, keep=1) as checkpoints, pytest.raises(UserError, match="train there"):
        checkpoints.restore(make_state(0))
    for path in (workdir, tmp_path / "absent"):
        with pytest.raises(UserError, match="No checkpoint in"):
            load_variables(path)


def test_a_workdir_that_cannot_be_written_is_named(tmp_path, config):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="Cannot write to the folder"):
            Checkpoints(path, keep=1)
        with pytest.raises(UserError, match="Cannot write to the folder"):
            save_config(path, config)


def test_keeping_none_is_an_error(workdir):
    with pytest.raises(UserError, match="keep_checkpoints"):
        Checkpoints(workdir, keep=0)


def test_config_json_gives_back_the_same_locked_config(workdir, config):
    restored = load_config(workdir)
    assert restored == config
    assert restored.eval.scales == (0.5, 1.0) and isinstance(restored.eval.scales, tuple)
    assert restored.is_locked and restored.model.is_locked
    assert json.loads((workdir / "config.json").read_text())["model"]["width"] == 18


def test_an_absent_or_damaged_config_json_is_named(workdir, tmp_path):
    with pytest.raises(UserError, match=r"Cannot read .*config\.json"):
        load_config(tmp_path / "absent")
    (workdir / "config.json").write_text('{"model": ')
    with pytest.raises(UserError, match=r"config.json' is damaged"):
        load_config(workdir)
