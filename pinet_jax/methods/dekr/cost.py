"""What a DEKR costs, piece by piece."""

from ml_collections import ConfigDict

from pinet_jax.methods.cost import BACKBONE, Cost, Network
from pinet_jax.methods.dekr import network

HEATMAPS, OFFSETS = "heatmap head", "offset head"


def network_cost(config: ConfigDict, height: int, width: int) -> dict[str, Cost]:
    """The cost of backbone, heatmap head and offset head.

    One view of one image: a flip test doubles the operations, each further scale adds its
    own. Nothing is computed: only shapes are traced.

    Args:
        config: its model, dataset.skeleton and dtype are read.
        height: of the network input, pixels.
        width: of the network input, pixels.

    Raises:
        UserError: sides that are no multiples of the network's stride, or no such model.
    """
    whole = Network(network.build(config), height, width)
    return {
        BACKBONE: whole.backbone(),
        HEATMAPS: whole.piece(("heatmap_head",), _heatmaps, whole.features),
        OFFSETS: whole.piece(("offset_head",), _offsets, whole.features),
    }


def counted_for(config: ConfigDict, height: int, width: int) -> str:
    """What the costs are of, beside the size."""
    del height, width
    return f"{config.model.keypoint_channels} channels a keypoint"


def _heatmaps(model: network.DEKR, features):
    return model.heatmap_head(features, False)


def _offsets(model: network.DEKR, features):
    return model.offset_head(features, False)
