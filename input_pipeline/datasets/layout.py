"""Where a dataset's files are inside its download, and what the module of a dataset says."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from ml_collections import ConfigDict

from pinet_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Files:
    """Where one split may be, as paths in the download, the official place first.

    Attributes:
        annotations: the COCO-format JSON.
        images: the folder of its images.
        scored: False where nobody but the publisher has the annotations; the JSON then
            lists images alone.
    """

    annotations: tuple[str, ...]
    images: tuple[str, ...]
    scored: bool = True


@dataclasses.dataclass(frozen=True)
class Found:
    """The same, found on disk."""

    annotations: pathlib.Path
    images: pathlib.Path
    scored: bool


@runtime_checkable
class Dataset(Protocol):
    """The module of a dataset.

    SPLITS: those that its download has; empty where the config says what there is.
    PREPARED: those that are prepared unless others are named; empty: those of the config.
    ALIASES: other names of joined splits, as "trainval" of "train+val".
    PUBLISHED: split, or splits joined by "+" -> row of the summary -> its published
        count, in words where it is published as a round figure.
    """

    SPLITS: tuple[str, ...]
    PREPARED: tuple[str, ...]
    ALIASES: Mapping[str, str]
    PUBLISHED: Mapping[str, Mapping[str, int | str]]

    def files(self, config: ConfigDict, split: str) -> Files:
        """Where a split's files are."""


def in_usual_folders(file_name: str) -> tuple[str, ...]:
    """Where people keep annotation files: `annotations/`, `json/`, or beside the images."""
    return (f"annotations/{file_name}", f"json/{file_name}", file_name)


def find(config: ConfigDict, files: Files) -> Found:
    """The files of a split in config.dataset.data_dir; UserError names what is missing."""
    folder = data_dir(config)
    annotations = [folder / path for path in files.annotations if (folder / path).is_file()]
    if not annotations:
        raise _missing(folder, "", files.annotations)
    images = [folder / path for path in files.images if (folder / path).is_dir()]
    if not images:
        raise _missing(folder, "The image folder ", files.images)
    return Found(annotations[0], images[0], files.scored)


def data_dir(config: ConfigDict) -> pathlib.Path:
    """The folder config.dataset.data_dir; UserError unless it is one."""
    if not config.dataset.data_dir:
        raise UserError(
            "config.dataset.data_dir is empty: set --config.dataset.data_dir to the folder "
            "of the download, or to what input_pipeline.prepare made of it."
        )
    path = pathlib.Path(config.dataset.data_dir).expanduser()
    if not path.is_dir():
        raise UserError(
            f"config.dataset.data_dir {path} is not a folder: give that of the download, or "
            "what input_pipeline.prepare made of it."
        )
    return path


def _missing(folder: pathlib.Path, what: str, places: tuple[str, ...]) -> UserError:
    return UserError(
        f"{what}{folder / places[0]} is missing: --config.dataset.data_dir must be the folder "
        f"of the download, with {' or '.join(places)} in it."
    )
