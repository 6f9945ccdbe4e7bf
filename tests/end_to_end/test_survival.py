"""What ends a training early loses nothing: kills, signals, damage, full disks, bad steps."""

import json
import os
import shutil
import signal
import subprocess

import jax
import numpy as np
import pytest

from pinet_jax.errors import UserError
from pinet_jax.training import loop, stopping
from pinet_jax.training.metrics_log import read_metrics
from pinet_jax.training.step_metrics import StepMetrics
from pinet_jax.weights import checkpoints, reading
from tests import devices, programs, runs, survival, tiny
from tools import rerun_step

STEPS = 4  # an epoch of 16 images in batches of 4


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with devices.use(1):
        yield


def config_of(**overrides):
    return tiny.config(**{"train.checkpoint_every": 2, **overrides})


def train(workdir, **overrides):
    return jax.device_get(runs.train(config_of(**overrides), workdir))


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.is_dir())


def losses_of(workdir):
    records = read_metrics(workdir / "metrics.jsonl")
    return {record["step"]: record["loss"] for record in records if "loss" in record}


def assert_same_state(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A workdir of a training that nothing disturbed, and its last state."""
    workdir = tmp_path_factory.mktemp("alone")
    return workdir, train(workdir)


@pytest.fixture
def workdir(alone, tmp_path):
    """A copy of that workdir, to disturb."""
    return shutil.copytree(alone[0], tmp_path / "run")


@pytest.fixture
def after_step(monkeypatch):
    """Calls a function as soon as the training has taken a step."""

    def call(step, function):
        add = StepMetrics.add

        def calling(self, number, *arguments):
            add(self, number, *arguments)
            if number == step:
                function()

        monkeypatch.setattr(StepMetrics, "add", calling)

    return call


# ---- Kills and signals


def test_killed_at_any_moment_the_result_is_the_same(tmp_path):
    outcome = survival.kill_and_compare(kills=2, folder=tmp_path, seed=0, steps=15)
    assert outcome.same_state and outcome.same_images


def start(workdir, *arguments, **environment):
    """train.py without an end."""
    where = f"--config={tiny.PATH}", f"--workdir={workdir}", "--config.train.epochs=1000.0"
    return programs.start("train.py", *where, *arguments, **environment)


def test_sigterm_saves_the_step_and_exits_as_documented(tmp_path):
    child = start(tmp_path / "run")
    survival.wait_for_log(child, tmp_path / "run")
    child.send_signal(signal.SIGTERM)
    survival.check_stopped(tmp_path / "run", child.done(timeout=120))


def test_a_signal_ends_it_after_its_step_and_nothing_is_lost(alone, tmp_path, after_step):
    after_step(2, lambda: None)  # the handlers come after the first step
    after_step(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(stopping.Stopped, match="SIGINT: the checkpoint of step 3") as stopped:
        train(tmp_path)
    assert stopped.value.exit_code == 130
    assert steps_in(tmp_path / "checkpoints") == [2, 3]
    assert_same_state(train(tmp_path), alone[1])
    assert losses_of(tmp_path) == losses_of(alone[0])


# ---- Damaged checkpoints and full disks


def test_a_damaged_newest_checkpoint_costs_only_its_steps(alone, workdir, capsys):
    for path in (workdir / "checkpoints" / "4").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    state = train(workdir)
    assert "checkpoints/4' is damaged" in capsys.readouterr().err
    assert_same_state(state, alone[1])
    assert losses_of(workdir) == losses_of(alone[0])
    assert steps_in(workdir / "damaged_checkpoints") == [4]
    assert_same_state(reading.load_variables(workdir)[1]["params"], state.params)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MiB, which holds one checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs; tests/pinet_jax/weights/ has another way")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_it_with_the_checkpoint_before(small_disk):
    done = start(small_disk / "run", "--config.train.checkpoint_every=2").done(timeout=120)
    message = done.stderr
    assert done.returncode == 2, message
    assert "Cannot write the checkpoint of step 4" in message
    assert "No space left on device" in message and "goes on from step 2" in message
    # A writer of Orbax's that was still at work may leave a part, which the next start removes.
    assert reading.steps_of(small_disk / "run") == [2]
    reading.load_variables(small_disk / "run")


# ---- A loss that is not finite


@pytest.fixture
def about_to_diverge(alone, tmp_path):
    """A workdir whose newest checkpoint, of step 2, has weights too large to square."""
    source = alone[0] / "checkpoints" / "2"
    state = reading.load_state(source, alone[1])
    state = state.replace(params=jax.tree.map(lambda x: x * np.float32(1e30), state.params))
    position = reading.read_position(source)
    checkpoints.save_state(tmp_path / "checkpoints" / "2", state, config_of(), position)
    return state


def test_a_bad_step_is_reported_and_never_saved(about_to_diverge, tmp_path, capsys):
    overrides = {"train.log_every": 4}  # so that a step follows before anybody looks
    with pytest.raises(UserError) as error:
        train(tmp_path, **overrides)
    folder = tmp_path / "nonfinite" / "3"
    message = str(error.value)
    assert "in step 3, of the images 8, 9, 10, 11:" in message and str(folder) in message
    assert "config.train.learning_rate" in message
    assert steps_in(tmp_path / "checkpoints") == [2]

    # The report: the state before the step, its batch, and how it goes again.
    assert_same_state(reading.load_state(folder, about_to_diverge), about_to_diverge)
    report = json.loads((folder / "report.json").read_text())
    assert report["step"] == 3 and report["image_ids"] == [8, 9, 10, 11]
    metrics, bad = rerun_step.rerun(folder, config_of(**overrides))
    assert not np.isfinite(metrics["loss"]) or bad
    assert str(float(metrics["loss"])) == report["metrics"]["loss"]

    capsys.readouterr()
    with pytest.raises(UserError, match="in step 3"):
        train(tmp_path, **overrides)
    assert f"not finite in step 3, see '{folder}'" in capsys.readouterr().err


# ---- Going on with another config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train.batch_size": 8}, "config.train.batch_size was 4 and is 8"),
        ({"seed": 1}, "config.seed was 0 and is 1"),
        ({"synthcrowd.num_train": 24}, "number of training images was 16 and is 24"),
    ],
)
def test_another_place_in_the_data_is_refused(alone, workdir, change, words):
    before = (workdir / "config.json").read_text()
    with pytest.raises(UserError) as error:
        train(workdir, **change)
    assert words in str(error.value) and "--config.train.init_from=" in str(error.value)
    assert (workdir / "config.json").read_text() == before


# ---- Evaluation on the way


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    return str(tmp_path_factory.mktemp("crowd"))


def test_the_training_evaluates_what_it_saves(crowd, tmp_path):
    state = train(tmp_path, **{"train.eval_every": 4, "dataset.data_dir": crowd})
    scores = json.loads((tmp_path / "eval_steps" / "4" / "metrics.json").read_text())
    *_, steps, evaluation = read_metrics(tmp_path / "metrics.jsonl")
    assert steps["step"] == evaluation["step"] == 4 and evaluation["AP"] == scores["AP"]
    config, variables = reading.load_variables(tmp_path / "best")
    assert_same_state(variables["params"], state.params)
    expected = runs.evaluate(config, variables, tmp_path / "again")
    assert {name: scores[name] for name in expected} == expected


@pytest.fixture
def scores(monkeypatch):
    """AP by step, instead of an evaluation; a function of no argument is called."""
    given = {}

    def evaluate(config, variables, data, out, model):
        score = given[int(out.name)]
        score = score() if callable(score) else score
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.json").write_text(json.dumps({"AP": score}))
        return {"AP": score}

    monkeypatch.setattr(loop, "evaluate", evaluate)
    return given


def test_the_best_stays(crowd, tmp_path, scores):
    scores |= {1: 0.1, 2: 0.3, 3: 0.2, 4: 0.25}
    overrides = {"train.eval_every": 1, "train.keep_checkpoints": 1, "dataset.data_dir": crowd}
    train(tmp_path, **overrides)
    assert steps_in(tmp_path / "checkpoints") == [2, 4]
    logged = [r for r in read_metrics(tmp_path / "metrics.jsonl") if "AP" in r]
    assert {record["step"]: record["AP"] for record in logged} == scores


def test_an_evaluation_is_broken_off_and_made_up_for(crowd, tmp_path, scores):
    def signal_comes():
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the evaluation was not broken off")

    overrides = {"train.eval_every": 2, "dataset.data_dir": crowd}
    scores |= {2: signal_comes}
    with pytest.raises(stopping.Stopped, match="SIGTERM: the checkpoint of step 2 "):
        train(tmp_path, **overrides)
    assert steps_in(tmp_path / "checkpoints") == [2]
    scores |= {2: 0.5, 4: 0.25}
    train(tmp_path, **overrides)
    logged = [r for r in read_metrics(tmp_path / "metrics.jsonl") if "AP" in r]
    assert {record["step"]: record["AP"] for record in logged} == {2: 0.5, 4: 0.25}


def test_an_evaluation_without_data_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(UserError, match=r"config\.dataset\.data_dir"):
        train(tmp_path / "run", **{"train.eval_every": 1, "dataset.data_dir": ""})
    assert not (tmp_path / "run").exists()
