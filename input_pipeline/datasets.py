"""Which dataset a config means."""

import importlib
import pathlib
from types import ModuleType

from ml_collections import ConfigDict

from input_pipeline.prepared import PreparedSplit
from pinet_jax.errors import UserError

# Each module has open_split(config, split) and annotations_path(config, split).
_MODULES = {"coco": "input_pipeline.coco", "synthcrowd": "input_pipeline.synthcrowd.builder"}


def open_split(config: ConfigDict, split: str) -> PreparedSplit:
    """The examples of a split, prepared on first use.

    Args:
        config: `config.dataset` says which dataset and where it is.
        split: "train" or "val".
    """
    return _module(config).open_split(config, split)


def annotations_path(config: ConfigDict, split: str) -> pathlib.Path:
    """The split's ground truth as a COCO-format JSON file, for scoring."""
    return _module(config).annotations_path(config, split)


def _module(config: ConfigDict) -> ModuleType:
    name = config.dataset.name
    if name not in _MODULES:
        known = ", ".join(_MODULES)
        raise UserError(f"config.dataset.name: '{name}' is not stored on disk; use one of {known}.")
    return importlib.import_module(_MODULES[name])
