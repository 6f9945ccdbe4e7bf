"""A whole study: its runs one after the other, and after each of them what is known so far."""

import contextlib
import functools
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import jax
from ml_collections import ConfigDict

from pinet_jax import skeletons, visualize
from pinet_jax.config import check_choices, read_config, save_config
from pinet_jax.data import Data
from pinet_jax.errors import UserError
from pinet_jax.evaluation import occlusion
from pinet_jax.runtime import files
from pinet_jax.studies import report, rows, runs, stages
from pinet_jax.studies.scoring import RowScores, is_scored, row_scores, score_run
from pinet_jax.weights.reading import load_variables

SHOWN = "full"  # the training whose stages are drawn
SHOWN_IMAGES = 3
FIRST_ROWS = 2  # trainings whose spread over seeds is measured before more are run
OpenData = Callable[[ConfigDict], Data]


def run_study(
    config: ConfigDict,
    out: str | os.PathLike,
    open_data: OpenData,
    names: Sequence[str] = (),
    budget: float | None = None,
) -> None:
    """Runs what is not finished, and writes the table and the pictures after every run.

    Args:
        config: of configs/study.py.
        out: the study's folder; a study goes on in it, and finished runs stay.
        open_data: the data that a config names.
        names: of the rows; all of them unless given.
        budget: minutes after which it stops, with the run in hand saved.

    Raises:
        UserError: unknown rows, several processes, or a folder with a study of another config.
        Stopped: by a signal or at the end of the budget, in a training; started again, it goes
            on. Between trainings the end of the budget ends the process.
    """
    check_choices(config)
    if jax.process_count() > 1:
        raise UserError("A study runs in one process: start it without --multi_host.")
    out = files.make_folder(out)
    wanted = [rows.row(name) for name in names or [row.name for row in rows.ROWS]]
    _check_same_study(config, out)
    save_config(out, config)
    todo = order(config, rows.trainings_of([row.name for row in wanted]))

    @functools.cache
    def annotations(level: float | None) -> pathlib.Path:
        return _truth(open_data(runs.held_out(config, level)))

    with _budget(budget):
        clock = _Clock([run for run in todo if not is_scored(config, run, out)])
        for run in clock.runs:
            print(clock.say(run), flush=True)
            runs.train(config, run, out, open_data)
            runs.predict(config, run, out, open_data)
            score_run(config, run, out, annotations)
            clock.ended()
            _draw(config, out, open_data)
            report.write(config, out, known(config, out, wanted))
    if not clock.runs:
        report.write(config, out, known(config, out, wanted))


def order(config: ConfigDict, trainings: Sequence[str]) -> list[runs.Run]:
    """The runs: all seeds of the first trainings, then the others seed by seed."""
    seeds = range(config.study.seeds)
    first = [runs.Run(name, seed) for name in trainings[:FIRST_ROWS] for seed in seeds]
    return first + [runs.Run(name, seed) for seed in seeds for name in trainings[FIRST_ROWS:]]


def _draw(config: ConfigDict, out: pathlib.Path, open_data: OpenData) -> None:
    """The pictures that no score is needed for: what parts show, and the stages of a network."""
    skeleton = skeletons.of(config)
    data = open_data(runs.held_out(config))
    if not (out / report.OCCLUSION).is_file():
        visibility = occlusion.read_visibility(_truth(data), skeleton)
        found = occlusion.of_partitions(visibility, skeleton)
        title = f"{data.eval_name}: {len(visibility):,} persons"
        visualize.save_png(occlusion.draw(found, title), out / report.OCCLUSION)
    run = runs.Run(SHOWN, 0)
    if is_scored(config, run, out) and not (out / report.STAGES).is_file():
        _, variables = load_variables(run.folder(out))
        ids = data.eval_ids_with_people()[:SHOWN_IMAGES]
        images = [image for image, _ in data.load_eval_images(ids)]
        trained = runs.training_config(config, run)
        visualize.save_png(stages.picture(trained, variables, images), out / report.STAGES)


def known(
    config: ConfigDict, out: pathlib.Path, wanted: Sequence[rows.Row]
) -> dict[str, RowScores]:
    """The scores of the rows with a finished run, by name."""
    found = {}
    for row in wanted:
        seeds = finished_seeds(config, row.training, out)
        if seeds:
            found[row.name] = row_scores(config, row, seeds, out)
    return found


def finished_seeds(config: ConfigDict, training: str, out: pathlib.Path) -> list[int]:
    """Seeds from 0 up to the first whose run is not finished."""
    seeds = []
    for seed in range(config.study.seeds):
        if not is_scored(config, runs.Run(training, seed), out):
            break
        seeds.append(seed)
    return seeds


class _Clock:
    """How far the study is, and how long it may take."""

    def __init__(self, todo: Sequence[runs.Run]):
        self.runs = todo
        self._done = 0
        self._start = time.monotonic()

    def say(self, run: runs.Run) -> str:
        """The line above a run."""
        left = ""
        if self._done:
            each = (time.monotonic() - self._start) / self._done / 60
            left = f", {each:.1f} min a run, {each * (len(self.runs) - self._done):.0f} min left"
        number = f"run {self._done + 1} of {len(self.runs)}{left}"
        return f"\n== {number}: {run.training}, seed {run.seed}"

    def ended(self) -> None:
        """A run has ended."""
        self._done += 1


@contextlib.contextmanager
def _budget(minutes: float | None) -> Iterator[None]:
    """Asks the process to stop after so many minutes, as a cluster would."""
    if minutes is None:
        yield
        return
    timer = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    before = signal.signal(signal.SIGTERM, _stop)  # outside of trainings, which have their own
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, _frame: object) -> None:
    """Ends the process at once: an exception would be raised inside whatever XLA is at.

    Nothing is lost. A training saves its state by handlers of its own once it has taken a step,
    and whatever else is written appears whole.
    """
    os.write(2, b"\nstopped between two trainings; start again to go on\n")
    os._exit(128 + number)


def _check_same_study(config: ConfigDict, out: pathlib.Path) -> None:
    """UserError if `out` holds a study of another config; more seeds may come."""
    if not (out / "config.json").is_file():
        return
    before = read_config(out).to_dict()
    now = config.to_dict()
    before["study"]["seeds"] = now["study"]["seeds"]
    if before != now:
        raise UserError(
            f"--out: '{out}' holds a study of another config: name another folder, or give the "
            "same config to go on with it."
        )


def _truth(data: Data) -> pathlib.Path:
    data.num_eval_images()  # renders them
    return data.eval_annotations()
