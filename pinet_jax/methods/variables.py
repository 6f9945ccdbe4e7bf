"""Variables of a network: fresh, as shapes, and whether they are all there."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from pinet_jax.backbones.initializers import draw, undrawn
from pinet_jax.errors import UserError

Variables = Mapping[str, Any]  # {"params": tree, "batch_stats": tree}

KINDS = ("params", "batch_stats")  # that every network has
_IMAGES = (1, 64, 64, 3)  # any that the network can see


def init(model: nn.Module, seed: int) -> dict[str, Any]:
    """Fresh {"params", "batch_stats"} on the host; of one seed they are always the same."""
    return draw({kind: _undrawn(model)[kind] for kind in KINDS}, seed)


def shapes(model: nn.Module) -> dict[str, Any]:
    """The same as shapes; nothing is drawn."""
    return nn.meta.unbox(_undrawn(model))


@functools.lru_cache(maxsize=32)  # more than there are configs: a large network takes seconds
def _undrawn(model: nn.Module) -> dict[str, Any]:
    return dict(undrawn(model, jnp.zeros(_IMAGES), method="init_all"))


def check_whole(variables: Variables) -> None:
    """UserError if the variables are of a backbone alone."""
    if set(variables["params"]) == {"backbone"}:
        raise UserError(
            "The checkpoint holds a backbone alone, which finds no people: train a model from "
            "it first, with config.train.init_from."
        )
