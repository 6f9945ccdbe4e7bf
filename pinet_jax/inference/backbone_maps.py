"""The map F that a model's backbone makes of images, for who wants to see what it sees."""

import functools
import hashlib

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from pinet_jax.backbones import hrnet
from pinet_jax.data import AnyArray
from pinet_jax.methods.variables import KINDS, Variables
from pinet_jax.weights.reading import named_leaves


class BackboneMaps:
    """F of network inputs of one size, one compiled program a size.

    Args:
        config: of the model.
        variables: of the model, of any method, or of a backbone alone.
    """

    def __init__(self, config: ConfigDict, variables: Variables):
        self._backbone = hrnet.build(config)
        # On one device: a predictor's are on all of them, which would all do the same work.
        mine = {kind: variables[kind]["backbone"] for kind in KINDS}
        self._variables = jax.device_put(mine, jax.local_devices()[0])

    def __call__(self, images: UInt8[AnyArray, "b h w 3"]) -> Float[Array, "b h4 w4 f"]:
        """F of RGB images whose sides are multiples of 32; nothing is updated."""
        return _maps(self._backbone, self._variables, images)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Tells one backbone's weights from another's."""
        digest = hashlib.sha256()
        for name, leaf in sorted(named_leaves(self._variables).items()):
            digest.update("/".join(name).encode())
            digest.update(np.asarray(leaf, np.float32).tobytes())
        return digest.hexdigest()[:16]


@functools.partial(jax.jit, static_argnums=0)
def _maps(backbone: nn.Module, variables: Variables, images: Array) -> Array:
    return backbone.apply(variables, hrnet.normalise(images))
