"""Which dataset a config means."""

import importlib
import pathlib
from types import ModuleType

from ml_collections import ConfigDict

from input_pipeline.storage import downloads
from input_pipeline.storage.reader import Split
from pinet_jax.errors import UserError

# Each module has open_split(config, split) and annotations_path(config, split).
_MODULES = {
    **dict.fromkeys(downloads.NAMES, "input_pipeline.storage.downloads"),
    "synthcrowd": "input_pipeline.synthcrowd.builder",
}


def open_split(config: ConfigDict, split: str) -> Split:
    """The examples of a split, prepared on first use.

    Args:
        config: `config.dataset` says which dataset and where it is.
        split: as the dataset names it, such as "train", "val" or "test"; "train+val" joins.
    """
    return _module(config).open_split(config, split)


def annotations_path(config: ConfigDict, split: str) -> pathlib.Path:
    """The split's ground truth as a COCO-format JSON file, for scoring.

    Raises:
        UserError: a joined split, or one whose annotations are not published.
    """
    return _module(config).annotations_path(config, split)


def is_scored(config: ConfigDict, split: str) -> bool:
    """Whether there is a ground truth; COCO keeps that of test-dev to its server."""
    return config.dataset.name not in downloads.NAMES or downloads.is_scored(config, split)


def _module(config: ConfigDict) -> ModuleType:
    name = config.dataset.name
    if name not in _MODULES:
        known = ", ".join(_MODULES)
        raise UserError(f"config.dataset.name: '{name}' is not stored on disk; use one of {known}.")
    return importlib.import_module(_MODULES[name])
