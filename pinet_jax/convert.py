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

from pinet_jax.errors import UserError
from pinet_jax.models import pinet

Path = tuple[str, ...]  # of a leaf: ("params", "backbone", "stem1", ...)

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
_COUNTER = "num_batches_tracked"  # kept by PyTorch's norms; nothing here uses it


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


def _template(config: ConfigDict) -> dict[Path, jax.ShapeDtypeStruct]:
    model = pinet.build(config)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, method="init_all"), image)
    return traverse_util.flatten_dict(dict(shapes))


def from_torch(state_dict: Mapping[str, np.ndarray], config: ConfigDict) -> dict:
    """Variables {"params", "batch_stats"} of the model `config` describes.

    Args:
        state_dict: released names -> arrays, e.g. {n: t.numpy() for n, t in ...}.
        config: describes the model; its shapes must be those of the state dict.

    Raises:
        UserError: entries are missing, left over or of another shape; all are listed.
    """
    template = _template(config)
    names = {path: released_name(path) for path in template}
    shapes = {
        names[path]: _to_released_layout(path)(np.empty(leaf.shape)).shape
        for path, leaf in template.items()
    }
    _check_entries({n: np.shape(x) for n, x in state_dict.items()}, shapes)
    flat = {
        path: np.ascontiguousarray(
            _from_released_layout(path)(np.asarray(state_dict[name], np.float32))
        )
        for path, name in names.items()
    }
    return traverse_util.unflatten_dict(flat)


def to_torch(variables: Mapping) -> dict[str, np.ndarray]:
    """Released state dict (names -> arrays) of variables; inverse of `from_torch`."""
    state_dict = {}
    for path, leaf in traverse_util.flatten_dict(dict(variables)).items():
        name = released_name(path)
        state_dict[name] = np.ascontiguousarray(_to_released_layout(path)(np.asarray(leaf)))
        if path[-1] == "var":
            state_dict[name.replace("running_var", _COUNTER)] = np.zeros((), np.int64)
    return state_dict


def _check_entries(given: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> None:
    problems = [f"missing {n} {s}" for n, s in wanted.items() if n not in given]
    problems += [
        f"unknown {n} {s}" for n, s in given.items() if n not in wanted and not n.endswith(_COUNTER)
    ]
    problems += [
        f"{n} has shape {given[n]}, the config wants {s}"
        for n, s in wanted.items()
        if n in given and given[n] != s
    ]
    if problems:
        raise UserError(
            f"The weights do not fit the config ({len(problems)} entries): {'; '.join(problems)}."
        )
