"""Names and layouts of CID's weights in the authors' files."""

from typing import Any

from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.released import Shapes, outputs

BACKBONE = "backbone."  # before HRNet's own names
HEADS = ("iia.", "gfd.")  # before all other names

MODULES = (  # module path, joined by "/" -> released prefix of its conv and its norm
    (r"iia/heatmaps", "iia.keypoint_center_conv", ""),
    (r"gfd/reduction", "gfd.conv_down", ""),
    (r"gfd/channel_attention", "gfd.c_attn.atn", ""),
    (r"gfd/pixel_attention", "gfd.s_attn.atn", ""),
    (r"gfd/spatial_attention", "gfd.s_attn.conv", ""),
    (r"gfd/fusion", "gfd.fuse_attn", ""),
    (r"gfd/heatmaps", "gfd.heatmap_conv", ""),
)
LEAVES: dict[str, str] = {}
CONV1D = ()
CONSTANTS: dict = {}


def model_fields(given: Shapes, config: ConfigDict) -> dict[str, Any]:
    """Config fields, dotted, that entries and their shapes give away; None where they do not."""
    skeleton = skeletons.with_keypoints(outputs(given, "gfd.heatmap_conv.weight"), config)
    return {
        "dataset.skeleton": skeleton.name if skeleton else None,
        "model.instance_channels": outputs(given, "gfd.conv_down.weight"),
    }
