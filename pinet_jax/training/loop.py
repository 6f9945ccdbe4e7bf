"""The training run: data, steps, logs and checkpoints around `training.train_step`."""

import collections
import functools
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from pinet_jax import visualize
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import network
from pinet_jax.methods.pinet.candidates import check_flip
from pinet_jax.runtime import devices, files, hosts
from pinet_jax.runtime.progress import Progress
from pinet_jax.training import nonfinite
from pinet_jax.training import step as training
from pinet_jax.training.metrics_log import FILE_NAME, MetricsLog
from pinet_jax.training.step_metrics import NotFinite, StepMetrics
from pinet_jax.training.stopping import Stopped, StopRequest
from pinet_jax.weights import checkpoints, reading

HOST_KEYS = ("image_id", "num_dropped")  # of a batch; the device does not need them
PREFETCH = 2  # batches on their way to the device
STREAM = "synthcrowd_stream"


def train(config: ConfigDict, workdir: str) -> training.TrainState:
    """Trains to the end of config.train.epochs, from the newest checkpoint if any.

    Without one it starts from the weights of config.train.init_from, or from fresh ones.

    Writes under `workdir`: config.json, checkpoints/, metrics.jsonl, TensorBoard events
    and loss_curves.png; with config.train.eval_every also eval_steps/STEP, see
    `eval_loop.evaluate`; nonfinite/STEP when it ends with such a loss.

    Raises:
        UserError: unusable data, workdir or config, a checkpoint of another config, a
            disk that is full, or a loss that is no longer finite.
        Stopped: asked to by a signal or by the cluster; the state is saved.
    """
    devices.check_batch_size(config.train.batch_size, config.train.accumulation)
    model = network.build(config)
    num_examples = examples_per_epoch(config)
    steps_per_epoch = num_examples / config.train.batch_size
    check_evaluation(config)
    schedule = training.learning_rate(config, steps_per_epoch)
    optimizer = training.make_optimizer(schedule)
    with (
        checkpoints.Checkpoints(workdir, config.train.keep_checkpoints) as saved,
        StopRequest() as stop,
    ):
        state = _first_state(config, saved, model, optimizer, num_examples)
        start = int(state.step)
        if hosts.is_main():
            checkpoints.save_config(workdir, config)
            reading.drop_evaluations(saved.workdir, after=start)
        step = nonfinite.guard(training.device_step(model, optimizer, config))
        step_fn = devices.map_step(step, config.parallel)
        with MetricsLog(workdir, start, hosts.is_main()) as log:
            run = _Run(config, num_examples, saved, log, schedule, stop)
            num_steps = training.total_steps(config, steps_per_epoch)
            state = run.go(devices.replicate(state), step_fn, start, num_steps)
    if hosts.is_main():
        _draw_losses(saved.workdir)
    return state


def check_evaluation(config: ConfigDict) -> None:
    """UserError unless config.train.eval_every is 0, or evaluating is possible."""
    if config.train.eval_every < 0:
        raise UserError(f"config.train.eval_every is {config.train.eval_every}: give 0 for never.")
    if not config.train.eval_every:
        return
    from input_pipeline.storage import splits

    config = _evaluated(config)
    check_flip(config)
    splits.open_split(config, config.dataset.eval_split)
    if not splits.is_scored(config, config.dataset.eval_split):
        raise UserError(
            f"config.dataset.eval_split: '{config.dataset.eval_split}' has no ground truth "
            "to choose the best checkpoint by; set config.train.eval_every to 0."
        )


def _evaluated(config: ConfigDict) -> ConfigDict:
    """That of the evaluation; the stream's is the same crowd on disk."""
    config = config.copy_and_resolve_references()
    if config.dataset.name == STREAM:
        config.dataset.name = "synthcrowd"
    return config


def _draw_losses(folder: files.Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:  # pictures are drawn into local files
        picture = pathlib.Path(temporary) / "loss_curves.png"
        visualize.loss_curves(folder / FILE_NAME, picture)
        try:
            (folder / picture.name).write_bytes(picture.read_bytes())
        except OSError as error:
            raise UserError(
                f"Cannot write '{folder / picture.name}' ({error.strerror}): free some space."
            ) from None


def _first_state(
    config: ConfigDict, saved: checkpoints.Checkpoints, model, optimizer, num_examples: int
) -> training.TrainState:
    """That of the newest readable checkpoint if there is one, else a fresh one."""
    fresh = functools.partial(training.create_state, model, optimizer, config.seed)
    if saved.latest_step() is None:
        state = fresh()
        return load_initial(state, config.train.init_from) if config.train.init_from else state
    state = saved.restore(jax.eval_shape(fresh))
    step = int(state.step)
    check_position(saved.position(step), position(config, num_examples, step), saved.workdir)
    if hosts.is_main():
        print(f"resuming at step {step}", flush=True)
        report = nonfinite.earlier(saved.workdir, step)
        if report is not None:
            print(
                f"an earlier start was not finite in step {report.name}, see '{report}': "
                "with the same config it will be so again",
                file=sys.stderr,
            )
    return state


def position(config: ConfigDict, num_examples: int, step: int) -> dict[str, int]:
    """The place in the data after `step`, and all that it depends on."""
    return {
        "seed": config.seed,
        "batch_size": config.train.batch_size,
        "examples_per_epoch": num_examples,
        "examples_seen": step * config.train.batch_size,
    }


def check_position(saved: dict[str, int], wanted: dict[str, int], workdir: files.Path) -> None:
    """UserError unless the data goes on where the checkpoint left it.

    The examples of a step follow from its number, the seed, the global batch size and the
    number of training images; so does the learning rate. A change would repeat some
    images, leave others out and jump in the schedule.
    """
    fields = {"seed": "config.seed", "batch_size": "config.train.batch_size"}
    for name, value in saved.items():
        if value != wanted[name]:
            field = fields.get(name, "the number of training images")
            raise UserError(
                f"The run in '{workdir}' cannot go on: {field} was {saved[name]} and is "
                f"{wanted[name]}; set it back, or start another workdir from its weights with "
                f"--config.train.init_from={workdir}."
            )


def load_initial(state: training.TrainState, path: str) -> training.TrainState:
    """A fresh `state` with the weights of a checkpoint; step and moments stay fresh.

    Args:
        path: a checkpoint of the whole model or of its backbone alone.

    Raises:
        UserError: there is none, or it is of another model.
    """
    variables = checkpoints.load_variables(path)[1]
    fresh = {"params": dict(state.params), "batch_stats": dict(state.batch_stats)}
    parts = ["backbone"] if set(variables["params"]) == {"backbone"} else list(fresh["params"])
    wanted = {kind: {p: tree[p] for p in parts if p in tree} for kind, tree in fresh.items()}
    checkpoints.check_same(
        traverse_util.flatten_dict(variables),
        traverse_util.flatten_dict(wanted),
        path,
        "set config.train.init_from to one of this model, or of its backbone alone",
    )
    return state.replace(**{kind: tree | variables[kind] for kind, tree in fresh.items()})


def examples_per_epoch(config: ConfigDict) -> int:
    """Training images of the dataset; for an endless stream, a nominal number."""
    if config.dataset.name == STREAM:
        return config.synthcrowd.num_train
    from input_pipeline import train_data

    return train_data.examples_per_epoch(config)


class _Run:
    """The loop, and what it does beside the steps."""

    def __init__(
        self,
        config: ConfigDict,
        num_examples: int,
        saved: checkpoints.Checkpoints,
        log: MetricsLog,
        schedule: Callable[[int], float],
        stop: StopRequest,
    ):
        self._config = config
        self._position = functools.partial(position, config, num_examples)
        self._saved = saved
        self._log = log
        self._schedule = schedule
        self._stop = stop
        self._metrics = StepMetrics()

    def go(self, state: training.TrainState, step_fn, start: int, num_steps: int):
        """The steps from `start` to `num_steps`; returns the last state."""
        train = self._config.train
        if start and self._evaluates(start):
            done = reading.average_precisions(self._saved.workdir)
            if start not in hosts.gather([*done]):  # stopped before its evaluation
                self._evaluate(state, start)
        batches = _to_device(host_batches(self._config, start), self._config.parallel)
        with Progress(num_steps, "train", start=start) as progress:
            for step in range(start + 1, num_steps + 1):
                batch, host = next(batches)
                state, metrics = step_fn(state, batch)
                self._metrics.add(step, metrics, host)
                self._stop.listen()  # after the first compilation: before it nothing is lost
                self._saved.check()
                stopped = self._stop.requested(step)
                evaluates = self._evaluates(step)
                save = evaluates or stopped or step == num_steps
                save = save or step % train.checkpoint_every == 0
                log = save or step % train.log_every == 0
                progress.update(**({"loss": self._write(state, step)} if log else {}))
                if save:
                    self._saved.save(state, self._position(step))
                if stopped:
                    self._end(step)
                if evaluates:
                    self._evaluate(state, step)
        return state

    def _evaluates(self, step: int) -> bool:
        every = self._config.train.eval_every
        return every > 0 and step % every == 0

    def _write(self, state: training.TrainState, step: int) -> float:
        """Logs the averages since the last call and returns the loss."""
        try:
            means = self._metrics.averages()
        except NotFinite as bad:
            self._report(state, bad)
        self._log.write(step, means | {"learning_rate": float(self._schedule(step - 1))})
        return means["loss"]

    def _evaluate(self, state: training.TrainState, step: int) -> None:
        """Scores the state of `step`, whose checkpoint is being written."""
        from pinet_jax.evaluation import loop as eval_loop

        variables = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
        out = self._saved.workdir / reading.EVALUATIONS / str(step)
        try:
            with self._stop.at_once():
                model = f"{self._saved.folder / str(step)} (step {step})"
                scores = eval_loop.evaluate(_evaluated(self._config), variables, out, model)
        except Stopped:
            self._end(step)
        self._log.write(step, scores)

    def _end(self, step: int) -> None:
        """Ends the run at the wish of somebody, its state on disk."""
        self._saved.wait()
        name = self._stop.number.name
        raise Stopped(
            self._stop.number,
            f"stopped by {name}: the checkpoint of step {step} is in '{self._saved.folder}'; "
            "start again to go on from it",
        )

    def _report(self, state: training.TrainState, bad: NotFinite) -> None:
        """Ends the run at a step that is not finite, the state before it on disk."""
        state = jax.device_get(state)
        state = state.replace(step=np.int32(bad.step - 1))
        batch = jax.device_get(next(host_batches(self._config, bad.step - 1)))
        folder = nonfinite.save_report(
            self._saved.workdir,
            state,
            batch,
            bad.metrics,
            self._config,
            self._position(bad.step - 1),
        )
        ids = ", ".join(map(str, hosts.gather(bad.image_ids)))
        raise UserError(
            f"The loss or its gradient is not finite in step {bad.step}, of the images {ids}: "
            f"'{folder}' has its batch and the state before it; look at those images, or lower "
            "config.train.learning_rate, and start again, which goes on from the last "
            "checkpoint and, unchanged, fails again."
        )


def host_batches(config: ConfigDict, start_step: int) -> Iterator[dict[str, np.ndarray]]:
    """This process's share of the endless training batches after `start_step`."""
    share = {"host_index": jax.process_index(), "host_count": jax.process_count()}
    if config.dataset.name == STREAM:
        from input_pipeline.synthcrowd import stream

        return stream.batches(config, config.train.batch_size, start_step, **share)
    from input_pipeline import train_data

    return train_data.train_batches(config, start_step, **share)


def _to_device(batches: Iterator, kind: str) -> Iterator[tuple[dict, dict]]:
    """(device part, host part) of each batch; transfers run ahead of the steps."""
    queue = collections.deque()
    for batch in batches:
        host = {key: np.asarray(batch.pop(key)) for key in HOST_KEYS}
        queue.append((devices.shard_batch(batch, kind), host))
        if len(queue) > PREFETCH:
            yield queue.popleft()
    yield from queue
