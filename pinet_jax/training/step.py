"""The training state, its optimiser and one step of it, guarded against what is not finite."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int32
from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.backbones.hrnet import normalise
from pinet_jax.data import AnyArray
from pinet_jax.methods.randomness import image_keys
from pinet_jax.methods.variables import init
from pinet_jax.runtime import devices

FINITE = "finite"  # the metric that says whether a step was


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
    """Fresh parameters and moments."""
    variables = init(model, seed)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
    )


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: ConfigDict,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step on one device's share of the batch; reduces over devices.AXIS.

    The share is worked off in config.train.accumulation parts, one after the other.
    Loss and gradients are those of the whole batch, however it is divided. Batch
    statistics are of a part: of its images on this device, or on all with
    config.bn_sync.

    Running statistics are averaged over parts and devices at every step: they are
    linear in the batch statistics, so this equals averaging them once before saving.
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
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    state = TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return state, metrics | {"gradient_norm": jnp.linalg.norm(_in_one_vector(grads))}


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


def guard(step: devices.Step) -> devices.Step:
    """The per-device step that leaves the state alone from the first bad step on.

    What follows before the host looks at the metrics changes nothing, so the state before
    the bad step is still there, at no cost of memory.

    Args:
        step: of a TrainState; its metrics have loss and gradient_norm.

    Returns:
        The same step, but of a Guarded, with one more metric, FINITE.
    """

    def run(before: Guarded, batch: devices.Batch) -> tuple[Guarded, dict]:
        new, metrics = step(before.train, batch)
        watched = (metrics["loss"], metrics["gradient_norm"], new.batch_stats)
        finite = jnp.all(jnp.isfinite(_in_one_vector(watched)))
        fails_now = ~finite & (before.failed_at == 0)
        failed_at = jnp.where(fails_now, before.train.step + 1, before.failed_at)
        choose = functools.partial(jnp.where, failed_at == 0)
        train = jax.tree.map(choose, new, before.train)
        return Guarded(train, failed_at), metrics | {FINITE: finite}

    return run


def device_step(
    model: nn.Module, optimizer: optax.GradientTransformation, config: ConfigDict
) -> devices.Step:
    """`train_step` of one device, to be mapped over all of them."""
    return functools.partial(train_step, model=model, optimizer=optimizer, config=config)


def make_train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, config: ConfigDict
) -> devices.Step:
    """The guarded `train_step`, compiled over all devices by config.parallel.

    It takes and returns a `Guarded` state.
    """
    return devices.map_step(guard(device_step(model, optimizer, config)), config.parallel)
