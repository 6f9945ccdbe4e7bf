"""PyTorch weights on disk: pickled (.pth, .pth.tar, .pt, .bin) or .safetensors.

Only pickled files need PyTorch, which reads nothing but tensors from them: a file
cannot run code.
"""

import os
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from pinet_jax.errors import UserError
from pinet_jax.runtime import files

StateDict = dict[str, np.ndarray]

SAFETENSORS = ".safetensors"
PICKLED = (".pth", ".pt", ".tar", ".bin")  # ".tar" ends ".pth.tar", which is no tar file
SUFFIXES = (SAFETENSORS, *PICKLED)
WRAPPER = "state_dict"  # key under which training programs keep the weights
DATA_PARALLEL = "module."  # what PyTorch's DataParallel puts before each name


def read_state_dict(path: str | os.PathLike) -> StateDict:
    """The weights of a file by name, without wrappers.

    Floating-point arrays come as they are stored, bfloat16 as float32.

    Raises:
        UserError: the file is absent or damaged, holds anything but tensors, is of an
            unknown kind, or is pickled and PyTorch is not installed.
    """
    path = pathlib.Path(path).expanduser()
    read = _read_safetensors if _kind(path) == SAFETENSORS else _read_pickled
    if not path.is_file():
        raise UserError(f"No file '{path}': give the path of the weights.")
    return read(path)


def write_state_dict(path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes weights, whole or not at all, as the file name's ending says.

    Raises:
        UserError: an unknown ending, an unwritable folder, or a pickled file without
            PyTorch.
    """
    path = pathlib.Path(path).expanduser()
    write = _write_safetensors if _kind(path) == SAFETENSORS else _write_pickled
    files.make_folder(path.parent)
    with files.replacing(path) as temporary:
        write(temporary, dict(state_dict))


def unwrap(loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Entries without a {"state_dict": ...} around them and "module." before them."""
    inner = loaded.get(WRAPPER)
    entries = inner if isinstance(inner, Mapping) else loaded
    return {name.removeprefix(DATA_PARALLEL): entry for name, entry in entries.items()}


def _kind(path: pathlib.Path) -> str:
    if path.suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise UserError(f"'{path}' is no weights file by its name: it must end in one of {known}.")
    return path.suffix


def _read_safetensors(path: pathlib.Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        state_dict = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{path}' is no readable safetensors file ({_line(error)}).") from None
    return {name: _plain(array) for name, array in unwrap(state_dict).items()}


def _plain(array: np.ndarray) -> np.ndarray:
    """NumPy itself has no bfloat16: an extension type stands for it."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _read_pickled(path: pathlib.Path) -> StateDict:
    torch = _import_torch(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{path}' holds more than tensors, or is damaged ({_line(error)}): if you trust "
            f"it, open it in PyTorch and save its state_dict alone."
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"'{path}' is no readable PyTorch file ({_line(error)}).") from None
    entries = unwrap(loaded) if isinstance(loaded, Mapping) else {}
    tensors = {name: entry for name, entry in entries.items() if isinstance(entry, torch.Tensor)}
    if not tensors or len(tensors) < len(entries):
        strange = next((name for name in entries if name not in tensors), type(loaded).__name__)
        raise UserError(
            f"'{path}' holds no state dict (first strange entry: {strange!r}): save "
            "model.state_dict(), alone or under the key 'state_dict'."
        )
    return {name: _to_numpy(tensor, torch) for name, tensor in tensors.items()}


def _to_numpy(tensor: Any, torch: Any) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _write_safetensors(path: pathlib.Path, state_dict: StateDict) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(state_dict, path)
    except SafetensorError as error:  # of a full disk, too
        raise OSError(_line(error)) from None


def _write_pickled(path: pathlib.Path, state_dict: StateDict) -> None:
    torch = _import_torch(path)
    tensors = {name: torch.from_numpy(np.array(x)) for name, x in state_dict.items()}
    try:
        torch.save(tensors, path)
    except RuntimeError as error:  # of a full disk, too
        raise OSError(_line(error)) from None


def _import_torch(path: pathlib.Path) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"'{path}' is a pickled file, which needs PyTorch: run `pip install torch`, or use "
            f"the same weights as {SAFETENSORS}."
        ) from None
    return torch


def _line(error: Exception) -> str:
    """The first sentence of an error, in one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")
