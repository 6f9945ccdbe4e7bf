"""The training run: data, steps, logs and checkpoints around `training.train_step`."""

import collections
import functools
import math
import pathlib
from collections.abc import Iterator

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from pinet_jax import checkpoints, parallel, training, visualize
from pinet_jax.errors import UserError
from pinet_jax.metrics_log import MetricsLog
from pinet_jax.models import pinet
from pinet_jax.progress import Progress

HOST_KEYS = ("image_id", "num_dropped")  # of a batch; the device does not need them
PREFETCH = 2  # batches on their way to the device


def train(config: ConfigDict, workdir: str) -> training.TrainState:
    """Trains to the end of config.train.epochs, from the newest checkpoint if any.

    Without one it starts from the weights of config.train.init_from, or from fresh ones.

    Writes under `workdir`: config.json, checkpoints/, metrics.jsonl, TensorBoard
    events and loss_curves.png.

    Raises:
        UserError: unusable data, workdir or config, a checkpoint of another config,
            or a loss that is no longer finite.
    """
    parallel.check_batch_size(config.train.batch_size)
    model = pinet.build(config)
    steps_per_epoch = examples_per_epoch(config) / config.train.batch_size
    num_steps = training.total_steps(config, steps_per_epoch)
    schedule = training.learning_rate(config, steps_per_epoch)
    optimizer = training.make_optimizer(schedule)
    with checkpoints.Checkpoints(workdir, config.train.keep_checkpoints) as saved:
        state = _first_state(config, saved, model, optimizer)
        if state.step:
            print(f"resuming at step {int(state.step)} of {num_steps}", flush=True)
        checkpoints.save_config(workdir, config)
        step_fn = training.make_train_step(model, optimizer, config)
        with MetricsLog(workdir, resume_step=int(state.step)) as log:
            state = parallel.replicate(state)
            state = _run(config, state, step_fn, saved, _Recorder(log, schedule), num_steps)
    visualize.loss_curves(
        pathlib.Path(workdir) / "metrics.jsonl", pathlib.Path(workdir) / "loss_curves.png"
    )
    return state


def _first_state(
    config: ConfigDict, saved: checkpoints.Checkpoints, model, optimizer
) -> training.TrainState:
    """That of the newest checkpoint if there is one, else a fresh one."""
    fresh = functools.partial(training.create_state, model, optimizer, config.seed)
    if saved.latest_step() is not None:
        return saved.restore(jax.eval_shape(fresh))
    if config.train.init_from:
        return load_initial(fresh(), config.train.init_from)
    return fresh()


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
    if config.dataset.name == "synthcrowd_stream":
        return config.synthcrowd.num_train
    from input_pipeline import train_data

    return train_data.examples_per_epoch(config)


def _run(config, state, step_fn, saved, recorder, num_steps) -> training.TrainState:
    """The loop itself."""
    start = int(state.step)
    batches = _to_device(_host_batches(config, start), config.parallel)
    with Progress(num_steps, "train", start=start) as progress:
        for step in range(start + 1, num_steps + 1):
            batch, host = next(batches)
            state, metrics = step_fn(state, batch)
            recorder.add(metrics, host)
            save = step == num_steps or step % config.train.checkpoint_every == 0
            log = save or step % config.train.log_every == 0
            progress.update(**({"loss": recorder.write(step)} if log else {}))
            if save:
                saved.save(state)
    return state


class _Recorder:
    """Averages the steps' metrics between two log lines."""

    def __init__(self, log: MetricsLog, schedule):
        self._log = log
        self._schedule = schedule
        self._metrics: list[dict] = []
        self._dropped = 0

    def add(self, metrics: dict, host: dict[str, np.ndarray]) -> None:
        """Remembers a step; nothing is fetched from the device yet."""
        self._metrics.append(metrics)
        self._dropped += int(host["num_dropped"].sum())

    def write(self, step: int) -> float:
        """Logs the averages since the last call and returns the loss."""
        fetched = jax.device_get(self._metrics)
        means = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
        if not math.isfinite(means["loss"]):
            raise UserError(
                f"The loss is not finite by step {step}: lower config.train.learning_rate and "
                "start again, which goes on from the last checkpoint."
            )
        extra = {
            "learning_rate": float(self._schedule(step - 1)),
            "persons_dropped": self._dropped,
        }
        self._log.write(step, means | extra)
        self._metrics, self._dropped = [], 0
        return means["loss"]


def _host_batches(config: ConfigDict, start_step: int) -> Iterator[dict[str, np.ndarray]]:
    share = {"host_index": jax.process_index(), "host_count": jax.process_count()}
    if config.dataset.name == "synthcrowd_stream":
        from input_pipeline.synthcrowd import stream

        return stream.batches(config, config.train.batch_size, start_step, **share)
    from input_pipeline import train_data

    return train_data.train_batches(config, start_step, **share)


def _to_device(batches: Iterator, kind: str) -> Iterator[tuple[dict, dict]]:
    """(device part, host part) of each batch; transfers run ahead of the steps."""
    queue = collections.deque()
    for batch in batches:
        host = {key: np.asarray(batch.pop(key)) for key in HOST_KEYS}
        queue.append((parallel.shard_batch(batch, kind), host))
        if len(queue) > PREFETCH:
            yield queue.popleft()
    yield from queue
