import contextlib
import errno
import json
import os
import pathlib
import resource
import shutil
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from pinet_jax.config import load_config as load_config_file
from pinet_jax.config import read_config, save_config
from pinet_jax.errors import UserError
from pinet_jax.weights import reading
from pinet_jax.weights.checkpoints import Checkpoints
from pinet_jax.weights.reading import load_variables


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


# ---- Damage


def truncate(folder):
    """Halves every file."""
    for path in filter(pathlib.Path.is_file, list(folder.rglob("*"))):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.fixture
def run(workdir):
    """A workdir with the checkpoints of steps 1 and 2."""
    with Checkpoints(workdir, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(make_state(step), {"seed": 0, "batch_size": 4})
    return workdir


@pytest.mark.parametrize("item", ["variables", "training", "config", "position"])
def test_a_damaged_checkpoint_is_reported_by_name(run, item, caplog):
    folder = run / "checkpoints" / "2"
    truncate(folder / item)
    with (
        Checkpoints(run, keep=2) as checkpoints,
        pytest.raises(UserError, match=rf"checkpoints/2' is damaged \(its {item}"),
    ):
        checkpoints.restore(make_state(0), step=2)
    if item in ("variables", "config"):
        with pytest.raises(UserError, match=rf"checkpoints/2' is damaged \(its {item}"):
            load_variables(folder)


@pytest.mark.parametrize("damage", [truncate, empty])
def test_the_one_before_a_damaged_newest_is_used(run, damage, capsys):
    damage(run / "checkpoints" / "2")
    assert_same(load_variables(run)[1]["params"], make_state(1).params)
    named = capsys.readouterr().err.splitlines()
    assert len(named) == 1 and "checkpoints/2' is damaged" in named[0]
    assert "one before it" in named[0] and (run / "checkpoints" / "2").is_dir()  # only read

    with Checkpoints(run, keep=2) as checkpoints:
        assert_same(checkpoints.restore(make_state(0)), make_state(1))
        assert "moved" in capsys.readouterr().err
        assert (run / "damaged_checkpoints" / "2").is_dir()
        assert checkpoints.latest_step() == 1
        checkpoints.save(make_state(2))
    assert_same(load_variables(run)[1]["params"], make_state(2).params)


def test_a_checkpoint_damaged_again_takes_the_place_of_the_first(run):
    for _ in range(2):
        empty(run / "checkpoints" / "2")
        with Checkpoints(run, keep=2) as checkpoints:
            checkpoints.restore(make_state(0))
            checkpoints.save(make_state(2))
    assert [path.name for path in (run / "damaged_checkpoints").iterdir()] == ["2"]


def test_none_that_can_be_read_is_an_error_and_changes_nothing(run):
    for step in "12":
        truncate(run / "checkpoints" / step)
    with Checkpoints(run, keep=2) as checkpoints:
        for read in (lambda: checkpoints.restore(make_state(0)), lambda: load_variables(run)):
            with pytest.raises(UserError, match="None of the 2 checkpoints"):
                read()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["1", "2"]


def test_another_configs_newest_is_not_taken_for_damaged(run):
    with Checkpoints(run, keep=2) as checkpoints:
        with pytest.raises(UserError, match="is of another config"):
            checkpoints.restore(make_state(1, width=5))
        assert checkpoints.latest_step() == 2


# ---- A disk that does not take it


@pytest.fixture
def small_files():
    """Every file larger than 100 kB fails to be written, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def large_state(step):
    weights = np.random.default_rng(step).normal(size=100_000)
    return {"step": np.array(step), "params": {"w": weights}, "batch_stats": {}}


@pytest.mark.parametrize("ask", ["check", "wait", "save", "close"])
def test_a_failed_save_is_told_and_leaves_the_one_before(workdir, small_files, ask):
    with Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.save(large_state(1))
        checkpoints.wait()
        small_files()
    checkpoints = Checkpoints(workdir, keep=1)

    def fail():
        checkpoints.save(large_state(2))
        deadline = time.monotonic() + 60
        while ask == "check" and time.monotonic() < deadline:
            checkpoints.check()
        getattr(checkpoints, ask)(*([large_state(3)] if ask == "save" else []))

    with pytest.raises(UserError) as error:
        fail()
    with contextlib.suppress(UserError):
        checkpoints.close()
    message = str(error.value)
    assert "Cannot write the checkpoint of step 2" in message and "from step 1." in message
    assert os.strerror(errno.EFBIG) in message and "\n" not in message
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["1"]
    assert_same(load_variables(workdir)[1]["params"], large_state(1)["params"])


def test_a_save_that_fails_at_the_end_is_not_lost(workdir, small_files):
    with pytest.raises(UserError, match="step 1 in"), Checkpoints(workdir, keep=1) as checkpoints:
        small_files()
        checkpoints.save(large_state(1))


def test_the_error_before_a_failed_save_is_the_one_told(workdir, small_files, capsys):
    with pytest.raises(KeyError), Checkpoints(workdir, keep=1) as checkpoints:
        small_files()
        checkpoints.save(large_state(1))
        raise KeyError
    assert "Cannot write the checkpoint of step 1" in capsys.readouterr().err


# ---- The best


def write_score(workdir, step, ap):
    folder = workdir / "eval_steps" / str(step)
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"AP": ap, "AP50": 1.0}))


def test_the_best_is_kept_beside_the_newest(workdir):
    scores = {1: 0.1, 2: 0.4, 3: 0.4, 4: 0.2, 6: 0.3}  # of 5 the evaluation was cut off
    with Checkpoints(workdir, keep=1) as checkpoints:
        for step in range(1, 7):
            checkpoints.save(make_state(step))
            if step in scores:
                write_score(workdir, step, scores[step])
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["3", "6"]
    assert_same(load_variables(workdir / "best")[1]["params"], make_state(3).params)
    assert_same(load_variables(workdir)[1]["params"], make_state(6).params)


def test_without_evaluations_there_is_no_best(run):
    with pytest.raises(UserError, match=r"no evaluated checkpoint.*eval_every"):
        load_variables(run / "best")


def test_evaluations_of_steps_to_come_are_dropped(tmp_path):
    for step in (1, 2, 3):
        write_score(tmp_path, step, 0.5)
    reading.drop_evaluations(tmp_path, after=1)
    assert reading.average_precisions(tmp_path) == {1: 0.5}


# ---- What else there may be


def test_the_place_in_the_data_comes_back(run):
    with Checkpoints(run, keep=2) as checkpoints:
        assert checkpoints.position(2) == {"seed": 0, "batch_size": 4}
        checkpoints.save(make_state(3))  # as before there were positions
        checkpoints.wait()
        assert checkpoints.position(3) == {"seed": 0, "batch_size": 40}  # of the config


def test_fields_newer_than_the_checkpoint_are_filled(workdir, config, capsys):
    with Checkpoints(workdir, keep=1) as checkpoints:
        checkpoints.save(make_state(1))
    path = workdir / "checkpoints" / "1" / "config" / "metadata"
    old = json.loads(path.read_text())
    del old["train"]["eval_every"], old["eval"]
    old["dataset"]["custom_skeleton"] = {"one's": "own"}
    path.write_text(json.dumps(old))
    read, _ = load_variables(workdir)
    named = capsys.readouterr().err.splitlines()
    assert len(named) == 1 and "config.train.eval_every" in named[0] and "config.eval" in named[0]
    assert read.eval.scales == load_config_file("base").eval.scales
    assert read.dataset.custom_skeleton.to_dict() == {"one's": "own"}
    assert read.train.to_dict() == config.train.to_dict()


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
    restored = read_config(workdir)
    assert restored == config
    assert restored.eval.scales == (0.5, 1.0) and isinstance(restored.eval.scales, tuple)
    assert restored.is_locked and restored.model.is_locked
    assert json.loads((workdir / "config.json").read_text())["model"]["width"] == 18


def test_an_absent_or_damaged_config_json_is_named(workdir, tmp_path):
    with pytest.raises(UserError, match=r"Cannot read .*config\.json"):
        read_config(tmp_path / "absent")
    (workdir / "config.json").write_text('{"model": ')
    with pytest.raises(UserError, match=r"config.json' is damaged"):
        read_config(workdir)
