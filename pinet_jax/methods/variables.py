"""Variables of a network: fresh, as shapes, and whether they are all there."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pinet_jax.errors import UserError

Variables = Mapping[str, Any]  # {"params": tree, "batch_stats": tree}

KINDS = ("params", "batch_stats")  # that every network has
_IMAGES = (1, 64, 64, 3)  # any that the network can see


def init(model: nn.Module, seed: int) -> dict[str, Any]:
    """Fresh {"params", "batch_stats"}, reproducible on one kind of device."""
    # A program of a thousand threefry generators would compile for half a minute.
    key = jax.random.key(seed, impl="rbg")
    variables = jax.jit(functools.partial(model.init, method="init_all"))(key, jnp.zeros(_IMAGES))
    return {kind: variables[kind] for kind in KINDS}


def shapes(model: nn.Module) -> dict[str, Any]:
    """The same as shapes; nothing is computed."""
    images = jax.ShapeDtypeStruct(_IMAGES, jnp.float32)
    init_all = functools.partial(model.init, method="init_all")
    return dict(jax.eval_shape(init_all, jax.eval_shape(lambda: jax.random.key(0)), images))


def check_whole(variables: Variables) -> None:
    """UserError if the variables are of a backbone alone."""
    if set(variables["params"]) == {"backbone"}:
        raise UserError(
            "The checkpoint holds a backbone alone, which finds no people: train a model from "
            "it first, with config.train.init_from."
        )
