"""Stand-in weights of the released PINet, which its golden arrays were computed with."""

import functools

import numpy as np

from pinet_jax.config import load_config
from pinet_jax.methods.pinet import network
from pinet_jax.weights import convert
from tests.golden import weights


@functools.cache
def state_dict() -> dict[str, np.ndarray]:
    return weights.state_dict()


@functools.cache
def released():
    """Config, network and variables of the golden arrays: W32 for COCO in float32."""
    config = load_config("coco", {"dtype": "float32"})
    return config, network.build(config), convert.from_torch(state_dict(), config)
