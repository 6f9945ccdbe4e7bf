"""The released CID's arrays, and stand-in weights of its network."""

import functools

import numpy as np

from pinet_jax.config import load_config
from pinet_jax.methods.cid import network
from pinet_jax.weights import convert
from tests.golden import weights_cid
from tests.paths import GOLDEN


@functools.cache
def state_dict() -> dict[str, np.ndarray]:
    return weights_cid.state_dict()


@functools.cache
def released():
    """Config, network and variables of the golden arrays: W32 for COCO in float32."""
    config = load_config("cid_coco", {"dtype": "float32", "targets.center_jitter": 0})
    return config, network.build(config), convert.from_torch(state_dict(), config)


def arrays(name: str):
    return np.load(GOLDEN / f"cid_{name}_coco.npz")
