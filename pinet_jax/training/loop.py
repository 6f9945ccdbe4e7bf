"""The training run: data, steps, logs and checkpoints around the step."""

import collections
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax import methods, visualize
from pinet_jax.config import save_config
from pinet_jax.data import HOST_KEYS, Data
from pinet_jax.errors import UserError
from pinet_jax.evaluation.loop import evaluate
from pinet_jax.runtime import devices, hosts
from pinet_jax.runtime.progress import Progress
from pinet_jax.runtime.waiting import first_run
from pinet_jax.training import nonfinite, start
from pinet_jax.training import step as training
from pinet_jax.training.metrics_log import FILE_NAME, MetricsLog, read_metrics
from pinet_jax.training.step_metrics import NotFinite, StepMetrics
from pinet_jax.training.stopping import Stopped, StopRequest
from pinet_jax.weights import checkpoints, reading

COMPILING = "compiling the training step, about a minute the first time"
PREFETCH = 2  # batches on their way to the device


def train(config: ConfigDict, workdir: str, data: Data) -> training.TrainState:
    """Trains to the end of config.train.epochs, from the newest checkpoint if any.

    Without one it starts from the weights of config.train.init_from, or from fresh ones.

    Writes under `workdir`: config.json, checkpoints/, metrics.jsonl, TensorBoard events
    and loss_curves.png; with config.train.eval_every also eval_steps/STEP, see
    `evaluation.loop.evaluate`; nonfinite/STEP when it ends with such a loss.

    Args:
        config: of the run.
        workdir: a folder, made if absent.
        data: what is trained and evaluated on.

    Raises:
        UserError: unusable data, workdir or config, a checkpoint of another config, a
            disk that is full, or a loss that is no longer finite.
        Stopped: asked to by a signal or by the cluster; the state is saved.
    """
    devices.check_batch_size(config.train.batch_size, config.train.accumulation)
    model = methods.of(config).build(config)
    num_examples = data.examples_per_epoch()
    steps_per_epoch = num_examples / config.train.batch_size
    check_evaluation(config, data)
    schedule = training.learning_rate(config, steps_per_epoch)
    optimizer = training.make_optimizer(schedule)
    with (
        checkpoints.Checkpoints(workdir, config.train.keep_checkpoints) as saved,
        StopRequest() as stop,
    ):
        state = start.first_state(config, saved, model, optimizer, num_examples)
        first = int(state.step)
        if hosts.is_main():
            save_config(workdir, config)
            reading.drop_evaluations(saved.workdir, after=first)
        made_from = training.made_from(model, config, steps_per_epoch)
        step_fn = training.TrainStep(model, optimizer, config, made_from)
        with MetricsLog(workdir, first, hosts.is_main()) as log:
            run = _Run(config, data, num_examples, saved, log, schedule, stop)
            num_steps = training.total_steps(config, steps_per_epoch)
            state = run.go(training.guarded(state), step_fn, first, num_steps)
    if hosts.is_main():
        visualize.loss_curves(
            read_metrics(saved.workdir / FILE_NAME), saved.workdir / "loss_curves.png"
        )
    return state


def check_evaluation(config: ConfigDict, data: Data) -> None:
    """UserError unless config.train.eval_every is 0, or evaluating is possible."""
    if config.train.eval_every < 0:
        raise UserError(f"config.train.eval_every is {config.train.eval_every}: give 0 for never.")
    if not config.train.eval_every:
        return
    methods.of(config).check(config)
    data.num_eval_images()  # prepares the data, or says what is wrong with it
    if data.eval_annotations() is None:
        raise UserError(
            f"config.dataset.eval_split: '{config.dataset.eval_split}' has no ground truth "
            "to choose the best checkpoint by; set config.train.eval_every to 0."
        )


class _Run:
    """The loop, and what it does beside the steps."""

    def __init__(
        self,
        config: ConfigDict,
        data: Data,
        num_examples: int,
        saved: checkpoints.Checkpoints,
        log: MetricsLog,
        schedule: Callable[[int], float],
        stop: StopRequest,
    ):
        self._config = config
        self._data = data
        self._position = functools.partial(start.position, config, num_examples)
        self._saved = saved
        self._log = log
        self._schedule = schedule
        self._stop = stop
        self._metrics = StepMetrics()

    def go(
        self, state: training.Guarded, step_fn: training.TrainStep, first: int, num_steps: int
    ) -> training.TrainState:
        """The steps from `first` to `num_steps`; returns the last state."""
        state = devices.replicate(state, self._config.parallel)
        train = self._config.train
        if first and self._evaluates(first):
            done = reading.average_precisions(self._saved.workdir)
            if first not in hosts.gather([*done]):  # stopped before its evaluation
                self._evaluate(state.train, first)
        batches = _to_device(self._data.train_batches(first), self._config.parallel)
        with Progress(num_steps, "train", start=first) as progress:
            for step in range(first + 1, num_steps + 1):
                batch, host = next(batches)
                if step == first + 1:
                    state, metrics = first_run(COMPILING, step_fn, state, batch)
                else:
                    state, metrics = step_fn(state, batch)
                self._metrics.add(step, metrics, host)
                self._stop.listen()  # after the first compilation: before it nothing is lost
                self._saved.check()
                stopped = self._stop.requested(step)
                evaluates = self._evaluates(step)
                save = evaluates or stopped or step == num_steps
                save = save or step % train.checkpoint_every == 0
                log = save or step % train.log_every == 0
                progress.update(**({"loss": self._write(state.train, step)} if log else {}))
                if save:
                    self._saved.save(state.train, self._position(step))
                if stopped:
                    self._end(step)
                if evaluates:
                    self._evaluate(state.train, step)
        return state.train

    def _evaluates(self, step: int) -> bool:
        every = self._config.train.eval_every
        return every > 0 and step % every == 0

    def _write(self, state: training.TrainState, step: int) -> float:
        """Logs the averages since the last call and returns the loss.

        Args:
            state: after `step`, or before the first step that was not finite.
            step: number of the last one.
        """
        try:
            means = self._metrics.averages()
        except NotFinite as bad:
            self._report(state, bad)
        self._log.write(step, means | {"learning_rate": float(self._schedule(step - 1))})
        return means["loss"]

    def _evaluate(self, state: training.TrainState, step: int) -> None:
        """Scores the state of `step`, whose checkpoint is being written."""
        variables = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
        out = self._saved.workdir / reading.EVALUATIONS / str(step)
        try:
            with self._stop.at_once():
                model = f"{self._saved.folder / str(step)} (step {step})"
                scores = evaluate(self._config, variables, self._data, out, model)
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
        batch = jax.device_get(next(self._data.train_batches(bad.step - 1)))
        folder = nonfinite.save_report(
            self._saved.workdir,
            jax.device_get(state),
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


def _to_device(batches: Iterator, kind: str) -> Iterator[tuple[dict, dict]]:
    """(device part, host part) of each batch; transfers run ahead of the steps."""
    queue = collections.deque()
    for batch in batches:
        host = {key: np.asarray(batch.pop(key)) for key in HOST_KEYS}
        queue.append((devices.shard_batch(batch, kind), host))
        if len(queue) > PREFETCH:
            yield queue.popleft()
    yield from queue
