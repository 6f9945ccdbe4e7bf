"""Names and layouts of DEKR's weights in the authors' files.

The branches are stacked here: a `*` in a name is the number of a leaf's row.
"""

from typing import Any

from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.released import Shapes, count, outputs
from pinet_jax.methods.dekr.adaptive import TAPS

BACKBONE = ""  # before HRNet's own names
HEADS = (  # before all other names
    "transition_heatmap.",
    "transition_offset.",
    "head_heatmap.",
    "offset_feature_layers.",
    "offset_final_layer.",
)

_BLOCK = r"offset_feature_layers.*.\1"
MODULES = (  # module path, joined by "/" -> released prefix of its conv and its norm
    (r"heatmap_head/transition", "transition_heatmap.0", "transition_heatmap.1"),
    (r"heatmap_head/block/conv(\d)", r"head_heatmap.0.0.conv\1", r"head_heatmap.0.0.bn\1"),
    (r"heatmap_head/maps", "head_heatmap.1", ""),
    (r"offset_head/transition", "transition_offset.0", "transition_offset.1"),
    (r"offset_head/branches/block(\d)/matrix", f"{_BLOCK}.transform_matrix_conv", ""),
    (r"offset_head/branches/block(\d)/translation", f"{_BLOCK}.translation_conv", ""),
    (r"offset_head/branches/block(\d)/adapt", f"{_BLOCK}.adapt_conv", ""),
    (r"offset_head/branches/block(\d)", "", f"{_BLOCK}.bn"),
    (r"offset_head/branches/offset", "offset_final_layer.*", ""),
)
LEAVES: dict[str, str] = {}
CONV1D = ()
CONSTANTS = {  # ending of a name -> that of a constant which the files have beside it
    "adapt_conv.weight": ("regular_matrix", TAPS.T),
}


def model_fields(given: Shapes, config: ConfigDict) -> dict[str, Any]:
    """Config fields, dotted, that entries and their shapes give away; None where they do not."""
    skeleton = skeletons.with_keypoints(count(given, r"offset_final_layer\.(\d+)\."), config)
    if skeleton is None:
        return {}
    channels = outputs(given, "offset_feature_layers.0.0.adapt_conv.weight")
    return {"dataset.skeleton": skeleton.name, "model.keypoint_channels": channels}
