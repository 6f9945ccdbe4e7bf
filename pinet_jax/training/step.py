"""The training state, its optimiser and one step of it, guarded against what is not finite."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int32
from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.backbones.hrnet import normalise
from pinet_jax.config import part_of
from pinet_jax.data import AnyArray
from pinet_jax.methods.randomness import image_keys
from pinet_jax.methods.variables import KINDS, init, shapes
from pinet_jax.runtime import devices, programs
from pinet_jax.runtime.programs import Program, in_words

FINITE = "finite"  # the metric that says whether a step was

# Fields of a config that a step's network, targets and losses are made from, and its rate.
STEP_FIELDS = (
    *("seed", "dtype", "parallel", "bn_sync", "model", "targets", "losses"),
    *("dataset.skeleton", "dataset.custom_skeleton", "train.accumulation"),
)
RATE_FIELDS = (
    *("train.learning_rate", "train.schedule", "train.epochs"),
    *("train.drop_epochs", "train.drop_factor", "train.warmup_steps"),
)


@struct.dataclass
class TrainState:
    """All that training changes.

    Attributes:
        step: int32, number of steps taken.
        params: the network's parameters.
        batch_stats: running statistics of its batch normalisations.
        opt_state: Adam's moments.
    """

    step: Int32[AnyArray, ""]
    params: Any
    batch_stats: Any
    opt_state: Any


def learning_rate(config: ConfigDict, steps_per_epoch: float) -> optax.Schedule:
    """Step -> learning rate: lowered at set epochs, or a cosine to zero."""
    train = config.train
    if train.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(
            train.learning_rate, total_steps(config, steps_per_epoch)
        )
    else:
        drops = {round(epoch * steps_per_epoch): train.drop_factor for epoch in train.drop_epochs}
        schedule = optax.piecewise_constant_schedule(train.learning_rate, drops)
    if not train.warmup_steps:
        return schedule
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / train.warmup_steps)


def total_steps(config: ConfigDict, steps_per_epoch: float) -> int:
    """Steps of the whole training."""
    return max(1, round(config.train.epochs * steps_per_epoch))


def make_optimizer(schedule: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam with PyTorch's constants, which are Optax's too."""
    return optax.adam(schedule)


def create_state(
    model: nn.Module, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """Fresh parameters and moments, on the host."""
    whole = state_shapes(model, optimizer)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), whole)
    return zeros.replace(**init(model, seed))  # moments start from zeros


def state_shapes(model: nn.Module, optimizer: optax.GradientTransformation) -> TrainState:
    """The same as shapes; nothing is computed."""
    variables = shapes(model)
    moments = jax.eval_shape(optimizer.init, variables["params"])
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return TrainState(step=step, opt_state=moments, **{kind: variables[kind] for kind in KINDS})


@struct.dataclass
class Measured:
    """What a batch says of a state.

    Attributes:
        gradients: of the loss, as the parameters.
        batch_stats: the running statistics with this batch in them.
        metrics: scalars by name: the loss and its parts, the counts that they are of,
            gradient_norm, and FINITE, whether all of it is.
    """

    gradients: Any
    batch_stats: Any
    metrics: dict[str, AnyArray]


def measure(
    state: TrainState, batch: dict[str, jax.Array], *, model: nn.Module, config: ConfigDict
) -> Measured:
    """What one device's share of a batch says; reduces over devices.AXIS.

    The share is worked off in config.train.accumulation parts, one after the other.
    Loss and gradients are those of the whole batch, however it is divided. Batch
    statistics are of a part: of its images on this device, or on all with
    config.bn_sync.

    Running statistics are averaged over parts and devices at every step: they are
    linear in the batch statistics, so this equals averaging them once before saving.

    Args:
        state: its moments play no part.
        batch: see pinet_jax/data.py.
        model: of config.model.
        config: its STEP_FIELDS are read.
    """
    method, accumulation = methods.of(config), config.train.accumulation
    share = len(batch["image"])
    numbers = jax.lax.axis_index(devices.AXIS) * share + jnp.arange(share)
    batch = batch | {"key": image_keys(config.seed, state.step, numbers)}
    parts = jax.tree.map(lambda x: x.reshape(accumulation, -1, *x.shape[1:]), batch)
    targets = _each(parts, lambda part: method.targets_of(model, part, config))
    counts = _sum_over(targets, lambda targets: method.count_batch(model, targets, config))
    counts = jax.lax.psum(counts, devices.AXIS)

    def gradients(part):
        images, targets = part

        def loss(params):
            pixels = normalise(images)
            return method.train_loss(
                model, params, state.batch_stats, pixels, targets, config, counts
            )

        return jax.grad(loss, has_aux=True)(state.params)

    sums = jax.lax.pmean(_sum_over((parts["image"], targets), gradients), devices.AXIS)
    grads, (metrics, batch_stats) = jax.tree.map(lambda x: x / accumulation, sums)
    return measured(grads, batch_stats, metrics)


def measured(grads: Any, batch_stats: Any, metrics: dict[str, AnyArray]) -> Measured:
    """These, with gradient_norm and FINITE among the metrics."""
    metrics = metrics | {"gradient_norm": jnp.linalg.norm(_in_one_vector(grads))}
    watched = (metrics["loss"], metrics["gradient_norm"], batch_stats)
    finite = jnp.all(jnp.isfinite(_in_one_vector(watched)))
    return Measured(grads, batch_stats, metrics | {FINITE: finite})


def _in_one_vector(tree: Any) -> Float[Array, " values"]:
    """All values behind one another: one reduction of a thousand arrays compiles quicker."""
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def _each(parts: Any, function: Callable[[Any], Any]) -> Any:
    """function(part) for each part of the leading axis, one after the other."""
    if len(jax.tree.leaves(parts)[0]) == 1:  # no loop, which XLA would optimise less
        return jax.tree.map(lambda x: x[None], function(jax.tree.map(lambda x: x[0], parts)))
    return jax.lax.map(function, parts)


def _sum_over(parts: Any, function: Callable[[Any], Any]) -> Any:
    """The sum of function(part) over the leading axis, with one part in memory at a time."""
    first = jax.tree.map(lambda x: x[0], parts)
    if len(jax.tree.leaves(parts)[0]) == 1:
        return function(first)

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(part)), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first))
    return jax.lax.scan(add, zeros, parts)[0]


@struct.dataclass
class Guarded:
    """A training state during a run; `train` alone is saved.

    Attributes:
        train: the state after the last step, or before the first that was not finite.
        failed_at: int32, number of that step, counted from 1; 0 while there is none.
    """

    train: TrainState
    failed_at: Int32[AnyArray, ""]


def guarded(state: TrainState) -> Guarded:
    """A state that nothing has happened to yet."""
    return Guarded(state, np.zeros((), np.int32))


def update(
    before: Guarded,
    gradients: Any,
    batch_stats: Any,
    finite: Bool[Array, ""],
    *,
    optimizer: optax.GradientTransformation,
) -> Guarded:
    """The state after a step; that before it from the first on that was not finite.

    What follows before the host looks at the metrics changes nothing, so the state before
    the bad step is still there, at no cost of memory.

    Args:
        before: the state that was measured.
        gradients: as of `Measured`.
        batch_stats: as of `Measured`.
        finite: whether the step was.
        optimizer: makes updates of gradients.
    """
    state = before.train
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    new = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    fails_now = ~finite & (before.failed_at == 0)
    failed_at = jnp.where(fails_now, state.step + 1, before.failed_at)
    choose = functools.partial(jnp.where, failed_at == 0)
    return Guarded(jax.tree.map(choose, new, state), failed_at)


class MadeFrom(NamedTuple):
    """What the two programs of a step are made from, as of `programs.Program`."""

    measure: str | None
    update: str | None


NOT_KEPT = MadeFrom(None, None)


def made_from(model: nn.Module, config: ConfigDict, steps_per_epoch: float) -> MadeFrom:
    """What a step of the config's own model and learning rate is made from."""
    return MadeFrom(
        in_words(model, part_of(config, STEP_FIELDS).to_dict()),
        in_words(part_of(config, RATE_FIELDS).to_dict(), steps_per_epoch),
    )


class TrainStep:
    """The guarded training step over all devices, mapped by config.parallel.

    It is two programs. One of both would run no faster, since no gradient is used before the
    norm of all is known, and would take longer to compile than the two together, and on a CPU
    twice as long to find again: XLA looks for each of its library's calls in all of a program.

    Args:
        model: of config.model.
        optimizer: makes updates of gradients.
        config: its STEP_FIELDS are read.
        made_from: of this model, optimizer and config, to keep the programs by.

    Attributes:
        measure: the program from a TrainState and a batch to what it says of it.
        update: the program of the next Guarded state.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optax.GradientTransformation,
        config: ConfigDict,
        made_from: MadeFrom = NOT_KEPT,
    ):
        kind = config.parallel
        on_one = functools.partial(measure, model=model, config=part_of(config, STEP_FIELDS))
        next_state = functools.partial(update, optimizer=optimizer)
        self.measure = Program("measure", devices.map_step(on_one, kind), made_from.measure)
        self.update = Program("update", devices.jit_replicated(next_state, kind), made_from.update)

    def __call__(
        self, state: Guarded, batch: devices.Batch
    ) -> tuple[Guarded, dict[str, jax.Array]]:
        """The next state and the step's metrics; `state` is donated."""
        found = self.look(state.train, batch)
        finite = found.metrics[FINITE]
        return self.update(state, found.gradients, found.batch_stats, finite), found.metrics

    def look(self, state: TrainState, batch: devices.Batch) -> Measured:
        """What the batch says of the state, which stays as it is."""
        return self.measure(_without_moments(state), batch)

    def prepare(self, state: Guarded, batch: devices.Batch) -> None:
        """Finds or compiles both programs, without running them."""
        train = state.train
        finite = jax.ShapeDtypeStruct((), bool, sharding=train.step.sharding)
        measured = _without_moments(train), batch
        updated = state, train.params, train.batch_stats, finite
        programs.prepare({self.measure: measured, self.update: updated})


def _without_moments(state: TrainState) -> TrainState:
    return state.replace(opt_state=())
