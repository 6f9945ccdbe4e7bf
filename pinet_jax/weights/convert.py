"""Released PyTorch weights to variables and back.

The variables' tree decides: each of its leaves has one name and one layout in the
released state dict, or where branches are stacked, each of its rows. Nothing here
needs PyTorch; a state dict is a mapping of NumPy arrays.
"""

import re
from collections.abc import Iterator, Mapping
from types import ModuleType

import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.backbones import released as hrnet
from pinet_jax.errors import UserError
from pinet_jax.methods import variables as of_network
from pinet_jax.weights import fit, torch_files

Path = tuple[str, ...]  # of a leaf: ("params", "backbone", "stem1", ...)
Variables = dict[str, dict]

COUNTER = "num_batches_tracked"  # kept by PyTorch's norms; nothing here uses it
ROW = "*"  # in a released name: the number of a row of a leaf that stacks branches

_NORM_LEAVES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_NORM_MODULES = ("BatchNorm_0", "norm", "hidden_norm")
_TO_RELEASED = {2: (1, 0), 4: (3, 2, 0, 1)}  # axes of [in, out] and of HWIO -> OIHW
_FROM_RELEASED = {2: (1, 0), 4: (2, 3, 1, 0)}
_WRAPPERS = {"Conv_0", "conv", "BatchNorm_0", "norm"}


def released_name(path: Path, names: ModuleType) -> str:
    """Name of a leaf in the released state dict, ROW in it for each row's own.

    Args:
        path: in the variables.
        names: `released` of the method.
    """
    modules, leaf = path[1:-1], path[-1]
    if "/".join(path[1:]) in names.LEAVES:
        return names.LEAVES["/".join(path[1:])]
    is_norm = modules[-1] in _NORM_MODULES
    # A head's own name ends in a Conv wrapper called "conv"; conv1.. are not wrappers.
    while modules[-1] in _WRAPPERS:
        modules = modules[:-1]
    table, before = names.MODULES, ""
    if modules[0] == "backbone":
        table, before, modules = hrnet.MODULES, names.BACKBONE, modules[1:]
    for pattern, conv, norm in table:
        match = re.fullmatch(pattern, "/".join(modules))
        if match:
            prefix = before + match.expand(norm if is_norm else conv)
            return f"{prefix}.{_NORM_LEAVES[leaf] if is_norm else _weight_leaf(leaf)}"
    raise KeyError(f"no released name for {'/'.join(path)}")


def _weight_leaf(leaf: str) -> str:
    return "bias" if leaf == "bias" else "weight"


def _to_released(path: Path, array: np.ndarray, names: ModuleType) -> np.ndarray:
    """A leaf's array as the released state dict lays it out."""
    if path[-1] == "kernel":
        is_conv1d = path[1] in names.CONV1D  # Dense [in, out] -> Conv1d [out, in, 1]
        array = array.transpose(_TO_RELEASED[array.ndim])
        array = array[:, :, None] if is_conv1d else array
    return np.ascontiguousarray(array)


def _from_released(path: Path, array: np.ndarray, names: ModuleType) -> np.ndarray:
    """The inverse of `_to_released`."""
    if path[-1] == "kernel":
        array = array[:, :, 0] if path[1] in names.CONV1D else array
        array = array.transpose(_FROM_RELEASED[array.ndim])
    return np.ascontiguousarray(array)


def from_torch(state_dict: Mapping[str, object], config: ConfigDict) -> Variables:
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
    names = methods.of(config).released
    wanted = _entries(config)
    if is_backbone(given, names):
        given = {n: x for n, x in given.items() if not n.startswith(hrnet.IMAGENET_HEAD)}
        wanted = {
            n.removeprefix(names.BACKBONE): (path, shape)
            for n, (path, shape) in wanted.items()
            if path[1] == "backbone"
        }
    fit.check(_shapes(given, names), {n: shape for n, (_, shape) in wanted.items()}, config)
    rows: dict[Path, list[np.ndarray]] = {}
    for name, (path, _) in wanted.items():
        row = _from_released(path, np.asarray(given[name], np.float32), names)
        rows.setdefault(path, []).append(row)
    flat = {path: np.stack(x) if _is_stacked(path, names) else x[0] for path, x in rows.items()}
    return traverse_util.unflatten_dict(flat)


def to_torch(variables: Mapping) -> dict[str, np.ndarray]:
    """State dict (names -> arrays) of variables; the inverse of `from_torch`.

    A model gets the released names, a backbone alone those of HRNet's authors.
    """
    state_dict = {}
    names = _names_of(variables)
    bare = set(variables["params"]) == {"backbone"}
    leaves = traverse_util.flatten_dict({kind: variables[kind] for kind in of_network.KINDS})
    for name, _, array in _released(leaves, names):
        name = name.removeprefix(names.BACKBONE if bare else "")
        state_dict[name] = array
        if name.endswith("running_var"):
            state_dict[name.replace("running_var", COUNTER)] = np.zeros((), np.int64)
        for ending, (constant, value) in names.CONSTANTS.items():
            if name.endswith(ending):
                state_dict[name.replace(ending, constant)] = value.copy()
    return state_dict


def is_backbone(state_dict: Mapping[str, np.ndarray], names: ModuleType) -> bool:
    """Whether an unwrapped state dict is an HRNet's, without the heads of a method."""
    inside = names.BACKBONE and any(name.startswith(names.BACKBONE) for name in state_dict)
    return not inside and fit.method_of(state_dict) is None


def _names_of(variables: Mapping) -> ModuleType:
    """`released` of the method that has such variables."""
    modules = set(variables["params"]) - {"backbone"}
    for method in methods.NAMES:
        names = methods.named(method).released
        if modules <= {pattern.partition("/")[0] for pattern, _, _ in names.MODULES}:
            return names
    raise UserError(f"No method has weights called {', '.join(sorted(modules))}.")


def _entries(config: ConfigDict) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """Released name -> (path in the variables, released shape) of a config's model."""
    method = methods.of(config)
    leaves = traverse_util.flatten_dict(of_network.shapes(method.build(config)))
    empty = {path: np.empty(leaf.shape) for path, leaf in leaves.items()}
    return {name: (path, array.shape) for name, path, array in _released(empty, method.released)}


def _released(
    leaves: Mapping[Path, np.ndarray], names: ModuleType
) -> Iterator[tuple[str, Path, np.ndarray]]:
    """Released name, path and released array of each leaf, or of each row of a stacked one."""
    for path, leaf in leaves.items():
        name = released_name(path, names)
        for number, row in enumerate(leaf if _is_stacked(path, names) else [leaf]):
            array = _to_released(path, np.asarray(row), names)
            yield name.replace(ROW, str(number)), path, array


def _is_stacked(path: Path, names: ModuleType) -> bool:
    return ROW in released_name(path, names)


def _constants(names: ModuleType) -> tuple[str, ...]:
    """Endings of entries that a file may have and no network needs."""
    return COUNTER, *(constant for constant, _ in names.CONSTANTS.values())


def shapes_of(state_dict: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Shape of every entry."""
    return {name: tuple(np.shape(x)) for name, x in state_dict.items()}


def _shapes(state_dict: Mapping[str, np.ndarray], names: ModuleType) -> dict[str, tuple[int, ...]]:
    ignored = _constants(names)
    return {n: s for n, s in shapes_of(state_dict).items() if not n.endswith(ignored)}
