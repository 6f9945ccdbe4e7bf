"""Two processes of two CPU devices each, over loopback: what one process does."""

import json
import os
import socket

import numpy as np
import pytest

from pinet_jax.training.metrics_log import read_metrics
from pinet_jax.weights import reading
from tests import devices, programs, runs, tiny
from tests.first_steps import KINDS, train

PROCESSES = 2
TIMEOUT = 400  # seconds; a hang must not stop the tests
STEPS = 2

FIELDS = {
    "bn_sync": True,
    "train.checkpoint_every": 1,
    "train.epochs": STEPS / 4,  # of 4 steps
    "train.schedule": "cosine",
    # Adam blows noise in gradients that are nothing up to whole steps: keep those small.
    "train.learning_rate": 1e-5,
}

GATHER = """
import json, sys
import jax
from pinet_jax.runtime import hosts
if len(sys.argv) == 1:
    hosts.initialize(True, None, None, None, 60)
else:
    hosts.initialize(False, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 60)
number = jax.process_index()
print(json.dumps({
    "items": hosts.gather([{"process": number, "item": i} for i in range(3 * number)]),
    "numbers": hosts.gather([str(number)]),
    "nothing": hosts.gather([]),
    "one": hosts.any_process(number == 1),
    "none": hosts.any_process(False),
    "main": hosts.is_main(),
}))
"""


def free_address():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return f"localhost:{probe.getsockname()[1]}"


def run_together(command_of, environment_of=lambda number: {}):
    """Output of each process of command_of(address, process number)."""
    address = free_address()
    started = [
        programs.start(
            *command_of(address, number), JAX_NUM_CPU_DEVICES="2", **environment_of(number)
        )
        for number in range(PROCESSES)
    ]
    try:
        ended = [program.done(TIMEOUT) for program in started]
    finally:
        for program in started:
            program.kill()
    return [programs.ended_well(done).stdout for done in ended]


def result_of(output):
    """The line of JSON, among what Gloo prints."""
    (line,) = (line for line in output.splitlines() if line.startswith("{"))
    return json.loads(line)


def run_program(name, *arguments):
    fields = [f"--config.{name}={value}" for name, value in FIELDS.items()]

    def command(address, number):
        flags = f"--coordinator_address={address}", f"--num_processes={PROCESSES}"
        where = *flags, f"--process_id={number}"
        return name, f"--config={tiny.PATH}", *fields, *arguments, *where

    return run_together(command)


def test_first_steps():
    outputs = run_together(
        lambda address, number: ("-m", "tests.first_steps", 2, address, PROCESSES, number)
    )
    wanted = train(1, "pmap")[1]
    for output in outputs:
        found = result_of(output)
        for kind in KINDS:
            for metrics, want in zip(found[kind], wanted, strict=True):
                for name in want:
                    np.testing.assert_allclose(metrics[name], want[name], rtol=1e-5, err_msg=name)


def slurm_job(number):
    """What SLURM tells a task; the last of them makes the coordinator's port."""
    return {
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(PROCESSES),
        "SLURM_PROCID": str(number),
        "SLURM_LOCALID": str(number),
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_JOB_ID": str(os.getpid()),
    }


@pytest.mark.parametrize("how", ["flags", "SLURM"])
def test_joining_and_gathering(tmp_path, how):
    script = tmp_path / "gather.py"
    script.write_text(GATHER)
    if how == "flags":
        outputs = run_together(lambda address, number: (script, address, PROCESSES, number))
    else:
        outputs = run_together(lambda *_: (script,), slurm_job)
    for number, output in enumerate(outputs):
        assert result_of(output) == {
            "items": [{"process": 1, "item": i} for i in range(3)],
            "numbers": ["0", "1"],
            "nothing": [],
            "one": True,
            "none": False,
            "main": number == 0,
        }


# ---- The programs


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A workdir of one process with four devices."""
    workdir = tmp_path_factory.mktemp("alone")
    with devices.use(4):
        runs.train(tiny.config(**FIELDS), workdir)
    return workdir


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A workdir of two processes, cut off after the first step and started again."""
    workdir = tmp_path_factory.mktemp("together")
    run_program("train.py", f"--workdir={workdir}", "--config.train.epochs=0.25")
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["1"]
    outputs = run_program("train.py", f"--workdir={workdir}")
    return workdir, outputs


def test_training_together_is_training_alone(alone, together):
    found, wanted = (read_metrics(path / "metrics.jsonl") for path in (together[0], alone))
    assert [record["step"] for record in found] == [1, 2]  # one log, and none twice
    for record, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(record["loss"], want["loss"], rtol=1e-5)
    saved = sorted(path.name for path in (together[0] / "checkpoints").iterdir())
    assert saved == ["1", "2"]
    assert len(list((together[0] / "tensorboard").glob("events*"))) == 2  # one a start
    assert (together[0] / "loss_curves.png").exists()


def test_one_process_reports(together):
    resumed = ["resuming at step 1" in output for output in together[1]]
    assert resumed == [True, False]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Fields of a crowd on disk."""
    return {"dataset.name": "synthcrowd", "dataset.data_dir": str(tmp_path_factory.mktemp("crowd"))}


def test_evaluating_together_is_evaluating_alone(alone, crowd, tmp_path):
    _, variables = reading.load_variables(alone)
    with devices.use(4):
        wanted = runs.evaluate(
            tiny.config(**FIELDS, **crowd),
            variables,
            tmp_path / "alone",
        )
    fields = [f"--config.{name}={value}" for name, value in crowd.items()]
    run_program("eval.py", f"--workdir={alone}", f"--out={tmp_path / 'together'}", *fields)

    results = [
        json.loads((tmp_path / who / "results.json").read_text()) for who in ("alone", "together")
    ]
    assert results[0] and len(results[0]) == len(results[1])
    for want, found in zip(*results, strict=True):
        assert found["image_id"] == want["image_id"]
        np.testing.assert_allclose(found["score"], want["score"], rtol=1e-4)
        np.testing.assert_allclose(found["keypoints"], want["keypoints"], atol=1e-2)
    metrics = json.loads((tmp_path / "together" / "metrics.json").read_text())
    assert {name: metrics[name] for name in wanted} == wanted


def test_others_that_do_not_come(tmp_path):
    for number in range(PROCESSES):
        where = free_address()
        command = (
            *("train.py", f"--config={tiny.PATH}", f"--workdir={tmp_path / 'run'}"),
            *(f"--coordinator_address={where}", "--num_processes=2", f"--process_id={number}"),
            "--join_timeout=2",
        )
        done = programs.run(*command)
        assert done.returncode == 2
        assert f"error: The coordinator {where} did not bring all processes" in done.stderr
    assert not (tmp_path / "run").exists()
