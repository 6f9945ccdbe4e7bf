"""Two processes of two CPU devices each, over loopback: what one process does."""

import functools
import json
import os
import signal
import socket

import numpy as np
import pytest

from pinet_jax.training.metrics_log import read_metrics
from pinet_jax.weights import reading
from tests import devices, programs, runs, survival, tiny
from tests.first_steps import KINDS, train

PROCESSES = 2
STEPS_PER_EPOCH = 4
TIMEOUT = 400  # seconds; a hang must not stop the tests

FIELDS = {
    "bn_sync": True,
    "train.checkpoint_every": 1000,  # at the end alone
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


def run_together(command_of, environment_of=lambda number: {}, meanwhile=None):
    """How each process of command_of(address, process number) ended."""
    address = free_address()
    started = [
        programs.start(
            *command_of(address, number), JAX_NUM_CPU_DEVICES="2", **environment_of(number)
        )
        for number in range(PROCESSES)
    ]
    try:
        if meanwhile:
            meanwhile(started)
        return [program.done(TIMEOUT) for program in started]
    finally:
        for program in started:
            program.kill()


def outputs_of(ended):
    return [programs.ended_well(done).stdout for done in ended]


def result_of(output):
    """The line of JSON, among what Gloo prints."""
    (line,) = (line for line in output.splitlines() if line.startswith("{"))
    return json.loads(line)


def run_program(name, *arguments, meanwhile=None):
    fields = [f"--config.{name}={value}" for name, value in FIELDS.items()]

    def command(address, number):
        flags = f"--coordinator_address={address}", f"--num_processes={PROCESSES}"
        where = *flags, f"--process_id={number}"
        return name, f"--config={tiny.PATH}", *fields, *arguments, *where

    return run_together(command, meanwhile=meanwhile)


def test_first_steps():
    ended = run_together(
        lambda address, number: ("-m", "tests.first_steps", 2, address, PROCESSES, number)
    )
    wanted = train(1, "pmap")[1]
    for output in outputs_of(ended):
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
        ended = run_together(lambda address, number: (script, address, PROCESSES, number))
    else:
        ended = run_together(lambda *_: (script,), slurm_job)
    for number, output in enumerate(outputs_of(ended)):
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
def together(tmp_path_factory):
    """A workdir of two processes; where a signal to one of them stopped both, and both go on."""
    workdir = tmp_path_factory.mktemp("together")

    def stop(children):
        survival.wait_for_log(children[0], workdir)
        children[1].send_signal(signal.SIGTERM)

    train = functools.partial(run_program, "train.py", f"--workdir={workdir}")
    ended = train("--config.train.epochs=1000.0", meanwhile=stop)
    (stopped,) = {survival.check_stopped(workdir, done) for done in ended}
    outputs = outputs_of(train(f"--config.train.epochs={(stopped + 1) / STEPS_PER_EPOCH}"))
    return workdir, stopped, outputs


@pytest.fixture(scope="module")
def alone(together, tmp_path_factory):
    """A workdir of one process with four devices, after as many steps."""
    workdir = tmp_path_factory.mktemp("alone")
    epochs = (together[1] + 1) / STEPS_PER_EPOCH
    with devices.use(4):
        runs.train(tiny.config(**FIELDS, **{"train.epochs": epochs}), workdir)
    return workdir


def test_training_together_is_training_alone(alone, together):
    workdir, stopped, _ = together
    found, wanted = (read_metrics(path / "metrics.jsonl") for path in (workdir, alone))
    # One log, and no step twice or left out.
    assert [record["step"] for record in found] == list(range(1, stopped + 2))
    for record, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(record["loss"], want["loss"], rtol=1e-5)
    saved = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert saved == {str(stopped), str(stopped + 1)}
    assert len(list((workdir / "tensorboard").glob("events*"))) == 2  # one a start
    assert (workdir / "loss_curves.png").exists()


def test_one_process_reports(together):
    _, stopped, outputs = together
    resumed = [f"resuming at step {stopped}" in output for output in outputs]
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
    where = f"--workdir={alone}", f"--out={tmp_path / 'together'}"
    outputs_of(run_program("eval.py", *where, *fields))

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
