"""The released DEKR's arrays, and stand-in weights of its network and its scoring net."""

import functools

import numpy as np

from pinet_jax import skeletons
from pinet_jax.config import load_config
from pinet_jax.inference import pose_scoring
from pinet_jax.methods.dekr import network
from pinet_jax.weights import convert
from tests.golden import weights_dekr
from tests.paths import GOLDEN


@functools.cache
def state_dict() -> dict[str, np.ndarray]:
    return weights_dekr.state_dict()


@functools.cache
def released(**overrides):
    """Config, network and variables of the golden arrays: W32 for COCO in float32."""
    fields = {name.replace("__", "."): value for name, value in overrides.items()}
    config = load_config("dekr_coco", {"dtype": "float32", **fields})
    variables = convert.from_torch(state_dict(), config)
    net = pose_scoring.from_torch(weights_dekr.scoring_state_dict(), skeletons.of(config))
    return config, network.build(config), variables | {pose_scoring.SCORING: net}


def arrays(name: str):
    return np.load(GOLDEN / f"dekr_{name}_coco.npz")


def close(found, want, of_maximum):
    np.testing.assert_allclose(found, want, rtol=0, atol=of_maximum * np.abs(want).max())
