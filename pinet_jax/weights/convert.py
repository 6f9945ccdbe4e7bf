"""Released PyTorch weights to variables and back.

The variables' tree decides: each of its leaves has one name and one layout in the
released state dict. Nothing here needs PyTorch; a state dict is a mapping of
NumPy arrays.
"""

import re
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from pinet_jax.methods.pinet import network
from pinet_jax.weights import fit, torch_files

Path = tuple[str, ...]  # of a leaf: ("params", "backbone", "stem1", ...)
Variables = dict[str, dict]

BACKBONE = "backbone."  # before HRNet's own names in a released state dict
IMAGENET_HEAD = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
COUNTER = "num_batches_tracked"  # kept by PyTorch's norms; nothing here uses it

_MODULES = (  # module path, joined by "/" -> released prefix of its conv and its norm
    (r"backbone/stem(\d)", r"backbone.conv\1", r"backbone.bn\1"),
    (r"backbone/layer1_(\d+)/conv(\d)", r"backbone.layer1.\1.conv\2", r"backbone.layer1.\1.bn\2"),
    (
        r"backbone/layer1_(\d+)/downsample",
        r"backbone.layer1.\1.downsample.0",
        r"backbone.layer1.\1.downsample.1",
    ),
    # Transition t makes branch t new (one more Sequential) and adapts the others.
    (
        r"backbone/transition(\d)_\1",
        r"backbone.transition\1.\1.0.0",
        r"backbone.transition\1.\1.0.1",
    ),
    (
        r"backbone/transition(\d)_(\d)",
        r"backbone.transition\1.\2.0",
        r"backbone.transition\1.\2.1",
    ),
    (
        r"backbone/stage(\d)_(\d+)/branch(\d)_(\d+)/conv(\d)",
        r"backbone.stage\1.\2.branches.\3.\4.conv\5",
        r"backbone.stage\1.\2.branches.\3.\4.bn\5",
    ),
    (
        r"backbone/stage(\d)_(\d+)/fuse(\d)_(\d)",
        r"backbone.stage\1.\2.fuse_layers.\3.\4.0",
        r"backbone.stage\1.\2.fuse_layers.\3.\4.1",
    ),
    (
        r"backbone/stage(\d)_(\d+)/fuse(\d)_(\d)_(\d)",
        r"backbone.stage\1.\2.fuse_layers.\3.\4.\5.0",
        r"backbone.stage\1.\2.fuse_layers.\3.\4.\5.1",
    ),
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
_NORM_LEAVES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_NORM_MODULES = ("BatchNorm_0", "norm", "hidden_norm")
_WRAPPERS = {"Conv_0", "conv", "BatchNorm_0", "norm"}


def released_name(path: Path) -> str:
    """Name of a leaf in the released state dict."""
    modules, leaf = path[1:-1], path[-1]
    if path[1:] == ("refiner", "adjacency"):
        return "pr.adj"
    is_norm = modules[-1] in _NORM_MODULES
    # A head's own name ends in a Conv wrapper called "conv"; conv1.. are not wrappers.
    while modules[-1] in _WRAPPERS:
        modules = modules[:-1]
    for pattern, conv, norm in _MODULES:
        match = re.fullmatch(pattern, "/".join(modules))
        if match:
            prefix = match.expand(norm if is_norm else conv)
            return f"{prefix}.{_NORM_LEAVES[leaf] if is_norm else _weight_leaf(leaf)}"
    raise KeyError(f"no released name for {'/'.join(path)}")


def _weight_leaf(leaf: str) -> str:
    return "bias" if leaf == "bias" else "weight"


def _to_released_layout(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """How a leaf's array is laid out in the released state dict."""
    if path[-1] != "kernel":
        return lambda x: x
    if path[1] == "refiner":  # Dense [in, out] -> Conv1d [out, in, 1]
        return lambda x: x.T[:, :, None]
    return lambda x: x.transpose(3, 2, 0, 1)  # HWIO -> OIHW


def _from_released_layout(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    if path[-1] != "kernel":
        return lambda x: x
    if path[1] == "refiner":
        return lambda x: x[:, :, 0].T
    return lambda x: x.transpose(2, 3, 1, 0)


def from_torch(state_dict: Mapping[str, np.ndarray], config: ConfigDict) -> Variables:
    """Variables of the model `config` describes, or of its backbone alone.

    Args:
        state_dict: names -> arrays of a released PINet, or of an HRNet as published
            for ImageNet by its authors or by timm, whose classification head is left
            out. "module." before the names and a {"state_dict": ...} around them
            change nothing.
        config: describes the model; its shapes must be those of the state dict.

    Returns:
        {"params": tree, "batch_stats": tree} of float32 NumPy arrays; of a bare
        backbone the trees hold "backbone" and nothing else.

    Raises:
        UserError: entries are missing, left over or of another shape. It names them
            and the configs that would fit.
    """
    given = torch_files.unwrap(state_dict)
    wanted = _entries(config)
    if is_backbone(given):
        given = {n: x for n, x in given.items() if not n.startswith(IMAGENET_HEAD)}
        wanted = {
            n.removeprefix(BACKBONE): entry for n, entry in wanted.items() if n.startswith(BACKBONE)
        }
    fit.check(_shapes(given), {n: shape for n, (_, shape) in wanted.items()}, config)
    flat = {
        path: np.ascontiguousarray(_from_released_layout(path)(np.asarray(given[name], np.float32)))
        for name, (path, _) in wanted.items()
    }
    return traverse_util.unflatten_dict(flat)


def to_torch(variables: Mapping) -> dict[str, np.ndarray]:
    """State dict (names -> arrays) of variables; the inverse of `from_torch`.

    A model gets the released names, a backbone alone those of HRNet's authors.
    """
    state_dict = {}
    bare = set(variables["params"]) == {"backbone"}
    for path, leaf in traverse_util.flatten_dict(dict(variables)).items():
        name = released_name(path).removeprefix(BACKBONE if bare else "")
        state_dict[name] = np.ascontiguousarray(_to_released_layout(path)(np.asarray(leaf)))
        if path[-1] == "var":
            state_dict[name.replace("running_var", COUNTER)] = np.zeros((), np.int64)
    return state_dict


def is_backbone(state_dict: Mapping[str, np.ndarray]) -> bool:
    """Whether an unwrapped state dict is an HRNet's, without PINet's heads."""
    return not any(name.startswith((BACKBONE, "ppg.", "pr.")) for name in state_dict)


def _entries(config: ConfigDict) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """Released name -> (path in the variables, released shape) of a config's model."""
    model = network.build(config)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, method="init_all"), image)
    return {
        released_name(path): (path, _to_released_layout(path)(np.empty(leaf.shape)).shape)
        for path, leaf in traverse_util.flatten_dict(dict(shapes)).items()
    }


def _shapes(state_dict: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {n: tuple(np.shape(x)) for n, x in state_dict.items() if not n.endswith(COUNTER)}
