"""What a CID costs, piece by piece."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.methods.cid import network
from pinet_jax.methods.cost import BACKBONE, Cost, Network

IIA, GFD = "IIA", "GFD"


def network_cost(config: ConfigDict, height: int, width: int) -> dict[str, Cost]:
    """The cost of backbone, IIA and GFD, the last for `num_people`.

    One view of one image: a flip test doubles the operations, each further scale adds its
    own. Nothing is computed: only shapes are traced.

    Args:
        config: its model, dataset.skeleton, dtype and eval.max_peaks are read.
        height: of the network input, pixels.
        width: of the network input, pixels.

    Raises:
        UserError: sides that are no multiples of the network's stride, or no such model.
    """
    whole = Network(network.build(config), height, width)
    count = num_people(config, height, width)
    vectors = jax.ShapeDtypeStruct((count, whole.features.shape[-1]), jnp.float32)
    centers = jax.ShapeDtypeStruct((count, 2), jnp.int32)
    return {
        BACKBONE: whole.backbone(),
        IIA: whole.piece(("iia",), _everybody, whole.features),
        GFD: whole.piece(("gfd",), _one_by_one, whole.features, vectors, centers),
    }


def counted_for(config: ConfigDict, height: int, width: int) -> str:
    """What the costs are of, beside the size."""
    return f"{num_people(config, height, width)} people"


def num_people(config: ConfigDict, height: int, width: int) -> int:
    """The most that are told apart in one view of one image: config.eval.max_peaks."""
    pixels = (height // HEATMAP_STRIDE) * (width // HEATMAP_STRIDE)
    return min(config.eval.max_peaks, pixels)


def _everybody(model: network.CID, features):
    return model.iia(features.astype(jnp.float32))


def _one_by_one(model: network.CID, features, vectors, centers):
    reduced = model.gfd.reduce(features.astype(jnp.float32))
    return model.gfd(jnp.repeat(reduced, len(vectors), 0), vectors, centers)
