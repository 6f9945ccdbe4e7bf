"""Variables of a network: fresh, as shapes, and whether they are all there."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from pinet_jax.errors import UserError

Variables = Mapping[str, Any]  # {"params": tree, "batch_stats": tree}

KINDS = ("params", "batch_stats")  # that every network has
_IMAGES = (1, 64, 64, 3)  # any that the network can see


def init(model: nn.Module, seed: int) -> dict[str, Any]:
    """Fresh {"params", "batch_stats"}, reproducible on one kind of device."""
    variables = _init(model, _key(seed))
    return {kind: variables[kind] for kind in KINDS}


def shapes(model: nn.Module) -> dict[str, Any]:
    """The same as shapes; nothing is computed."""
    return jax.tree.map(lambda shape: shape, _shapes(model))  # for the caller to change


def _key(seed: int) -> PRNGKeyArray:
    # A program of a thousand threefry generators would compile for half a minute.
    return jax.random.key(seed, impl="rbg")


@functools.partial(jax.jit, static_argnums=0)  # equal networks are traced once
def _init(model: nn.Module, key: PRNGKeyArray) -> dict[str, Any]:
    return dict(model.init(key, jnp.zeros(_IMAGES), method="init_all"))


@functools.lru_cache(maxsize=32)  # more than there are configs: a large network takes seconds
def _shapes(model: nn.Module) -> dict[str, Any]:
    return jax.eval_shape(lambda: _init(model, _key(0)))


def check_whole(variables: Variables) -> None:
    """UserError if the variables are of a backbone alone."""
    if set(variables["params"]) == {"backbone"}:
        raise UserError(
            "The checkpoint holds a backbone alone, which finds no people: train a model from "
            "it first, with config.train.init_from."
        )
