"""Stand-in weights of the released PINet, which its golden arrays were computed with."""

import functools
import importlib.util

import numpy as np

from pinet_jax.config import load_config
from pinet_jax.methods.pinet import network
from pinet_jax.weights import convert
from tests.paths import GOLDEN


@functools.cache
def state_dict() -> dict[str, np.ndarray]:
    spec = importlib.util.spec_from_file_location("golden_weights", GOLDEN / "weights.py")
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    return weights.state_dict()


@functools.cache
def released():
    """Config, network and variables of the golden arrays: W32 for COCO in float32."""
    config = load_config("coco", {"dtype": "float32"})
    return config, network.build(config), convert.from_torch(state_dict(), config)
