"""The two stages of training: features by the affinity, then the refinement (section 2)."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from pinet_jax.methods.variables import init
from pinet_jax.tracking.correspondences import losses
from pinet_jax.tracking.correspondences.affinity import cells_of, over_cells, query_windows
from pinet_jax.tracking.correspondences.losses import Pairs
from pinet_jax.tracking.correspondences.network import CorrespondenceNet

AFFINITY, REFINEMENT = "affinity", "refinement"  # the stages


@struct.dataclass
class TrainState:
    """All that training changes.

    Attributes:
        step: int32, steps taken, of both stages.
        params: the network's parameters.
        batch_stats: running statistics of its batch normalisations.
        opt_state: Adam's moments in this stage.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


Step = Callable[[TrainState, Pairs], tuple[TrainState, dict[str, jax.Array]]]


def total_steps(config: ConfigDict) -> int:
    """Steps of both stages."""
    return config.correspondences.affinity_steps + config.correspondences.refinement_steps


def stage_of(config: ConfigDict, step: int) -> str:
    """The stage in which the step after `step` others is taken."""
    return AFFINITY if step < config.correspondences.affinity_steps else REFINEMENT


def make_optimizer(config: ConfigDict, stage: str) -> optax.GradientTransformation:
    """Adam, its rate falling to 0 as a cosine over the stage."""
    steps = config.correspondences[f"{stage}_steps"]
    return optax.adam(optax.cosine_decay_schedule(config.train.learning_rate, max(1, steps)))


def create_state(net: CorrespondenceNet, config: ConfigDict) -> TrainState:
    """Fresh parameters at the start of stage 1."""
    variables = init(net, config.seed)
    optimizer = make_optimizer(config, AFFINITY)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
    )


def enter_refinement(state: TrainState, config: ConfigDict) -> TrainState:
    """The state at the start of stage 2, without the moments of stage 1.

    The features then get no gradient, and without moments they do not move.
    """
    optimizer = make_optimizer(config, REFINEMENT)
    return state.replace(opt_state=optimizer.init(state.params))


def make_step(net: CorrespondenceNet, config: ConfigDict, stage: str) -> Step:
    """The compiled step of a stage; its metrics are `loss` and `found` (see `losses.found`)."""
    optimizer = make_optimizer(config, stage)
    of_stage = {AFFINITY: _affinity_stage, REFINEMENT: _refinement_stage}[stage]

    @jax.jit
    def step(state: TrainState, pairs: Pairs) -> tuple[TrainState, dict[str, jax.Array]]:
        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            return of_stage(net, variables, pairs, config)

        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, (share, batch_stats)), grads = gradient(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = TrainState(state.step + 1, params, batch_stats, opt_state)
        return new, {"loss": value, "found": share}

    return step


def _affinity_stage(net: CorrespondenceNet, variables: dict, pairs: Pairs, config: ConfigDict):
    views = jnp.concatenate([pairs.view_a, pairs.view_b])
    describe = functools.partial(net.apply, mutable=["batch_stats"], method="describe")
    features, updated = describe(variables, views, train=True)
    logits = affinity_logits(net, variables, features, pairs)
    flat = pairs.targets.reshape(len(logits), -1, 2)
    positive = pairs.positive.reshape(len(logits), -1)
    value = losses.affinity_loss(logits, flat, positive, config.correspondences.affinity_loss)
    share = losses.masked_mean(losses.found(logits, flat, positive), positive)
    return value, (share, updated["batch_stats"])


def _refinement_stage(net: CorrespondenceNet, variables: dict, pairs: Pairs, config: ConfigDict):
    _, refined, updated = maps(net, variables, pairs, train=True)
    targets, valid, positive = (
        x.reshape(-1, *x.shape[2:]) for x in (pairs.targets, pairs.valid, pairs.positive)
    )
    kind = config.correspondences.refinement_loss
    value = losses.refinement_loss(refined, targets, valid, positive, kind)
    share = losses.masked_mean(losses.found(refined, targets, positive), positive)
    return value, (share, updated)


def affinity_logits(
    net: CorrespondenceNet,
    variables: dict,
    features: Float[Array, "b2 h w c"],
    pairs: Pairs,
) -> Float[Array, "b q h w"]:
    """Of all joints of a pair at once, of F of the views a and, behind them, the views b."""
    of_a, of_b = jnp.split(features, 2)
    count = len(of_a)
    cells = cells_of(pairs.queries).reshape(count, -1, 2)
    source = jnp.broadcast_to(jnp.arange(count)[:, None], cells.shape[:2])
    queries = query_windows(of_a, source, cells)
    return net.apply(variables, queries, of_b, method="logits")


def maps(
    net: CorrespondenceNet, variables: dict, pairs: Pairs, train: bool
) -> tuple[Float[Array, "t k h w"], Float[Array, "t k h w"], Any]:
    """A and the logits of R of every person of every pair, and the new batch statistics.

    The features are frozen.
    """
    views = jnp.concatenate([pairs.view_a, pairs.view_b])
    features = net.apply(variables, views, method="describe")
    logits = affinity_logits(net, variables, features, pairs)
    found = over_cells(logits).reshape(*pairs.valid.shape, *logits.shape[-2:])
    found = jnp.where(pairs.valid[..., None, None], found, 0)
    found = jax.lax.stop_gradient(found.reshape(-1, *found.shape[2:]))
    features = jax.lax.stop_gradient(features)
    (as_a, _), (_, as_b) = (
        net.apply(variables, half, method="contexts") for half in jnp.split(features, 2)
    )
    people = pairs.valid.shape[1]
    as_a, as_b = (jnp.repeat(x, people, axis=0) for x in (as_a, as_b))
    refine = functools.partial(net.apply, mutable=["batch_stats"], method="refine")
    refined, updated = refine(variables, as_a, as_b, found, train=train)
    return found, refined, {**variables["batch_stats"], **updated["batch_stats"]}


def check(net: CorrespondenceNet, variables: dict, batches: Iterable[Pairs]) -> dict[str, float]:
    """The self-check on held-out pairs.

    Returns:
        positives; of these the shares that A and R find (`losses.found`); the mean largest R
        of positives and of absent joints.
    """

    @jax.jit
    def count(pairs: Pairs) -> dict[str, jax.Array]:
        affinity, refined, _ = maps(net, variables, pairs, train=False)
        targets, valid, positive = (
            x.reshape(-1, *x.shape[2:]) for x in (pairs.targets, pairs.valid, pairs.positive)
        )
        highest = jax.nn.sigmoid(refined.max((-2, -1)))
        absent = valid & ~positive
        return {
            "positives": positive.sum(),
            "absent": absent.sum(),
            "affinity": losses.found(affinity, targets, positive).sum(),
            "refinement": losses.found(refined, targets, positive).sum(),
            "r_positive": (highest * positive).sum(),
            "r_absent": (highest * absent).sum(),
        }

    sums = [jax.device_get(count(pairs)) for pairs in batches]
    total = {name: float(np.sum([one[name] for one in sums])) for name in sums[0]}
    positives, absent = max(total["positives"], 1.0), max(total["absent"], 1.0)
    return {
        "positives": total["positives"],
        "affinity": total["affinity"] / positives,
        "refinement": total["refinement"] / positives,
        "r_positive": total["r_positive"] / positives,
        "r_absent": total["r_absent"] / absent,
    }
