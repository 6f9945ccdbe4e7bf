"""What a PINet costs, piece by piece."""

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.methods.cost import BACKBONE, Cost, Network
from pinet_jax.methods.pinet import network

HEADS, REFINEMENT = "PPG heads", "PR"


def network_cost(config: ConfigDict, height: int, width: int) -> dict[str, Cost]:
    """The cost of backbone, PPG heads and, where the model has one, PR.

    One view of one image: a flip test doubles the operations, each further scale adds its
    own. PR counts for `num_proposals`. Nothing is computed: only shapes are traced.

    Args:
        config: its model, dataset.skeleton, dtype and eval.max_peaks are read.
        height: of the network input, pixels.
        width: of the network input, pixels.

    Raises:
        UserError: sides that are no multiples of the network's stride, or no such model.
    """
    model = network.build(config)
    whole = Network(model, height, width)
    costs = {
        BACKBONE: whole.backbone(),
        HEADS: whole.piece(("ppg",), _heads, whole.features),
    }
    if model.refinement:
        proposals = _abstract_proposals(model, num_proposals(config, height, width))
        refinement = whole.piece(("refiner",), type(model).refine, whole.features, *proposals)
        # Its Table 3 gives 29.4 M parameters, which is the network without it.
        costs[REFINEMENT] = dataclasses.replace(refinement, in_paper=False)
    return costs


def counted_for(config: ConfigDict, height: int, width: int) -> str:
    """What the costs are of, beside the size."""
    partition = f"partition {config.model.partition}"
    if not config.model.refinement:
        return partition
    return f"{partition}, {num_proposals(config, height, width)} proposals refined"


def num_proposals(config: ConfigDict, height: int, width: int) -> int:
    """The most poses that PR refines in one view of one image: config.eval.max_peaks a part."""
    pixels = (height // HEATMAP_STRIDE) * (width // HEATMAP_STRIDE)
    return len(network.build(config).parts) * min(config.eval.max_peaks, pixels)


def _heads(model: network.PINet, features):
    return model.ppg(features)


def _abstract_proposals(model: network.PINet, count: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Poses, centres and validity, as `PINet.refine` takes them."""
    return (
        jax.ShapeDtypeStruct((1, count, model.num_keypoints, 2), jnp.float32),
        jax.ShapeDtypeStruct((1, count, 2), jnp.int32),
        jax.ShapeDtypeStruct((1, count), bool),
    )
