"""Names and layouts of PINet's weights in the authors' files."""

from typing import Any

from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.released import Shapes, count, outputs

BACKBONE = "backbone."  # before HRNet's own names
HEADS = ("ppg.", "pr.")  # before all other names

MODULES = (  # module path, joined by "/" -> released prefix of its conv and its norm
    (r"ppg/keypoint_head", "ppg.heatmap_head", ""),
    (r"ppg/part_head", "ppg.detkptmap_head", ""),
    (r"ppg/offset_head", "ppg.offset_head", ""),
    (r"refiner/input", "pr.gconv_head.conv", "pr.gconv_head.bn"),
    (
        r"refiner/layer(\d)_(\d)",
        r"pr.gconv_layers.\1.gconv\2.conv",
        r"pr.gconv_layers.\1.gconv\2.bn",
    ),
    (r"refiner/hidden", "pr.gconv_pred.0", ""),
    (r"refiner/hidden_norm", "", "pr.gconv_pred.1"),
    (r"refiner/delta", "pr.gconv_pred.3", ""),
)
LEAVES = {"refiner/adjacency": "pr.adj"}
CONV1D = ("refiner",)  # whose dense layers are convolutions of width 1 there
CONSTANTS: dict = {}  # ending of a name -> that of a constant which the files have beside it


def model_fields(given: Shapes, config: ConfigDict) -> dict[str, Any]:
    """Config fields, dotted, that entries and their shapes give away; None where they do not.

    Where several partitions have as many parts, it is the config's own or the first.
    """
    num_parts = outputs(given, "ppg.detkptmap_head.weight")
    skeleton = skeletons.with_keypoints(outputs(given, "ppg.heatmap_head.weight"), config)
    if skeleton is None:
        return {}
    partitions = [n for n, parts in skeleton.partitions.items() if len(parts) == num_parts]
    partitions.sort(key=lambda name: name != config.model.partition)
    partition = partitions[0] if partitions else None
    refinement = any(name.startswith("pr.") for name in given)
    return {
        "model.method": "spm" if partition == "center" and not refinement else "pinet",
        "dataset.skeleton": skeleton.name,
        "model.partition": partition,
        "model.refinement": refinement,
        "model.graph": "dynamic" if "pr.adj" in given else None,
        "model.graph_layers": count(given, r"pr\.gconv_layers\.(\d+)\."),
    }
