"""Kills a training again and again, and holds what it becomes against one left alone.

    python -m tests.survival KILLS FOLDER [--seed N]

Every second kill waits until a checkpoint is half written. Restarts the training after
each; prints what was found and ends with code 1 unless the final states are the same bit
for bit and every step saw the same images. As a child, it trains:

    python -m tests.survival --train WORKDIR STEPS
"""

import argparse
import collections
import dataclasses
import pathlib
import random
import signal
import subprocess
import sys
import time

from pinet_jax.training.metrics_log import read_metrics
from pinet_jax.weights import reading
from tests import programs, runs

IMAGES = "images.txt"  # one line a step taken: its number and its image ids
STEPS = 60
CHECKPOINT_EVERY = 3


@dataclasses.dataclass
class Outcome:
    """Of a training that was killed.

    Attributes:
        kills: how often.
        during_save: of them, with a checkpoint half written.
        steps_repeated: steps taken more than once.
        same_state: whether the final states are equal bit for bit.
        same_images: whether every step saw the same images each time it was taken.
    """

    kills: int
    during_save: int
    steps_repeated: int
    same_state: bool
    same_images: bool


def config_of(steps: int):
    """The tiny model on the stream."""
    from tests import tiny

    epochs = steps / 4  # of 16 images, in batches of 4
    return tiny.config(**{"train.epochs": epochs, "train.checkpoint_every": CHECKPOINT_EVERY})


def train(workdir: pathlib.Path, steps: int) -> None:
    """Trains, and notes the images of every step that is taken."""
    from pinet_jax.program import enable_compilation_cache
    from pinet_jax.training import step_metrics

    add = step_metrics.StepMetrics.add

    def noting(self, step, metrics, host):
        add(self, step, metrics, host)
        with open(workdir / IMAGES, "a") as file:
            print(step, *host["image_id"].tolist(), file=file)

    step_metrics.StepMetrics.add = noting
    workdir.mkdir(parents=True, exist_ok=True)
    config = config_of(steps)
    enable_compilation_cache(config)  # as train.py
    runs.train(config, workdir)


def kill_and_compare(kills: int, folder: pathlib.Path, seed: int, steps: int = STEPS) -> Outcome:
    """Trains in folder/alone undisturbed and in folder/killed with that many kills."""
    alone, killed = folder / "alone", folder / "killed"
    programs.ended_well(start(alone, steps).done())
    rng = random.Random(seed)
    during_save = sum(_kill(killed, steps, kill % 2 == 0, rng) for kill in range(kills))
    programs.ended_well(start(killed, steps).done())
    expected, seen = images_of(alone), images_of(killed)
    return Outcome(
        kills=kills,
        during_save=during_save,
        steps_repeated=sum(len(times) > 1 for times in seen.values()),
        same_state=_same_state(alone, killed, steps),
        same_images=list(expected) == sorted(seen)
        and all(set(times) == set(expected[step]) for step, times in seen.items()),
    )


def start(workdir: pathlib.Path, steps: int) -> programs.Program:
    """The training as a process of its own."""
    return programs.start("-m", "tests.survival", "--train", workdir, steps)


def images_of(workdir: pathlib.Path) -> dict[int, list[tuple[int, ...]]]:
    """By step, the image ids each time it was taken."""
    seen = collections.defaultdict(list)
    for line in (workdir / IMAGES).read_text().splitlines():
        step, *ids = map(int, line.split())
        seen[step].append(tuple(ids))
    return dict(seen)


def wait_for_steps(child: programs.Program, workdir: pathlib.Path, count: int = 1) -> None:
    """Returns when the process has taken `count` steps, or has ended."""
    before = _size(workdir / IMAGES)
    lines = 0
    while child.poll() is None and lines < count:
        time.sleep(0.005)
        if _size(workdir / IMAGES) > before:
            lines = (workdir / IMAGES).read_bytes()[before:].count(b"\n")


def wait_for_log(child: programs.Program, workdir: pathlib.Path) -> None:
    """Returns when train.py has logged some steps, or has ended."""
    log = workdir / "metrics.jsonl"
    while child.poll() is None and not (log.exists() and log.read_text().count("\n") > 2):
        time.sleep(0.01)


def check_stopped(workdir: pathlib.Path, done: subprocess.CompletedProcess) -> int:
    """The step at which train.py stopped; exit code, message and checkpoint are as documented."""
    assert done.returncode == 143, done.stderr
    (saved,) = (workdir / "checkpoints").iterdir()
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"stopped by SIGTERM: the checkpoint of step {saved.name} ")
    assert read_metrics(workdir / "metrics.jsonl")[-1]["step"] == int(saved.name)
    reading.load_variables(workdir)
    return int(saved.name)


def _kill(workdir: pathlib.Path, steps: int, during_save: bool, rng: random.Random) -> bool:
    """Starts the training and kills it; whether that left a checkpoint half written."""
    child = start(workdir, steps)
    if during_save:
        wait_for_steps(child, workdir)
        time.sleep(rng.uniform(0, 0.3))
        while child.poll() is None and not _half_written(workdir):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
    else:
        time.sleep(rng.uniform(0, 2) if rng.random() < 0.2 else 0)  # also while it starts
        wait_for_steps(child, workdir, rng.randint(1, 2 * CHECKPOINT_EVERY))
        time.sleep(rng.uniform(0, 0.1))
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was done before it was killed"
    return bool(_half_written(workdir))


def _half_written(workdir: pathlib.Path) -> list[pathlib.Path]:
    return list((workdir / "checkpoints").glob("*tmp*"))


def _size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _same_state(alone: pathlib.Path, killed: pathlib.Path, steps: int) -> bool:
    import jax

    from pinet_jax.methods.pinet import network
    from pinet_jax.training import step as training

    config = config_of(steps)
    optimizer = training.make_optimizer(training.learning_rate(config, 4))
    shapes = jax.eval_shape(
        lambda: training.create_state(network.build(config), optimizer, config.seed)
    )
    a, b = (
        reading.load_state(workdir / "checkpoints" / str(steps), shapes)
        for workdir in (alone, killed)
    )
    same = jax.tree.map(lambda x, y: x.tobytes() == y.tobytes(), a, b)
    return int(a.step) == steps and all(jax.tree.leaves(same))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", nargs=2, metavar=("WORKDIR", "STEPS"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("kills", type=int, nargs="?")
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    arguments = parser.parse_args()
    if arguments.train:
        train(pathlib.Path(arguments.train[0]), int(arguments.train[1]))
        return 0
    outcome = kill_and_compare(
        arguments.kills, arguments.folder, arguments.seed, steps=10 * arguments.kills + 20
    )
    print(outcome)
    return 0 if outcome.same_state and outcome.same_images else 1


if __name__ == "__main__":
    sys.exit(main())
