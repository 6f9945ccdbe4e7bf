"""The authors' files taken as they are, where a checkpoint is asked for."""

import os
import pathlib

from ml_collections import ConfigDict

from pinet_jax.errors import UserError
from pinet_jax.runtime import files
from pinet_jax.weights import convert, fit, torch_files


def is_one(path: str | os.PathLike) -> bool:
    """Whether a path is that of a file of weights, there or not, and not of a checkpoint."""
    if files.is_cloud(path):
        return False
    path = pathlib.Path(path).expanduser()
    return path.is_file() or (path.suffix in torch_files.SUFFIXES and not path.is_dir())


def without_suffix(path: str | os.PathLike) -> pathlib.Path:
    """The path of a file of weights without what says its kind."""
    path = pathlib.Path(path).expanduser()
    while path.suffix in torch_files.SUFFIXES:
        path = path.with_suffix("")
    return path


def read(
    path: str | os.PathLike, config: ConfigDict | None = None
) -> tuple[ConfigDict, convert.Variables]:
    """The config and the variables of a released model.

    Args:
        path: a file that `torch_files.read_state_dict` reads.
        config: of the model; None takes the shipped one that fits.

    Raises:
        UserError: it cannot be read, is of no known method, or does not fit `config`; then the
            error names the config that does.
    """
    state_dict = torch_files.read_state_dict(path)
    try:
        config = config or fit.config_of(convert.shapes_of(state_dict), pathlib.Path(path).name)
        return config, convert.from_torch(state_dict, config)
    except UserError as error:
        raise UserError(f"'{path}': {error}") from None
