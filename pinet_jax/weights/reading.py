"""Checkpoints found and read: Orbax's formats, without its manager."""

import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from ml_collections import ConfigDict

from pinet_jax.config import config_from_json
from pinet_jax.errors import UserError
from pinet_jax.runtime import files
from pinet_jax.weights import released_files

Read = TypeVar("Read")
State = TypeVar("State")
Variables = dict[str, Any]  # {"params": tree, "batch_stats": tree} of NumPy arrays
Position = Mapping[str, int]  # what reproduces the place in the data

FOLDER = "checkpoints"  # in a workdir
EVALUATIONS = "eval_steps"  # in a workdir: STEP/metrics.json
BEST = "best"  # WORKDIR/best names the checkpoint of the highest AP
JSON_ITEMS = ("config", "position")
VARIABLES = ("params", "batch_stats")
NAMED_DIFFERENCES = 3  # at most, in the error for a checkpoint of another model


class DamagedCheckpoint(UserError):
    """A checkpoint that cannot be read, in whole or in part."""


def steps_of(workdir: files.Path) -> list[int]:
    """Steps of the complete checkpoints in a workdir, rising."""
    folder = workdir / FOLDER
    found = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    return sorted(int(p.name) for p in found if ocp.utils.is_checkpoint_finalized(p))


def newest_readable(
    workdir: files.Path, read: Callable[[files.Path], Read]
) -> tuple[Read, list[files.Path]]:
    """What `read` makes of the newest checkpoint that is not damaged.

    Names each damaged one in a line on standard error.

    Args:
        workdir: of a training.
        read: is given a checkpoint's folder and raises DamagedCheckpoint.

    Returns:
        That, and the folders of the damaged checkpoints, which are all newer.

    Raises:
        UserError: there is no checkpoint.
        DamagedCheckpoint: none can be read.
    """
    steps = steps_of(workdir)
    if not steps:
        raise UserError(
            f"No checkpoint in '{workdir}': give a workdir of train.py, one of its checkpoints or "
            "a file of released weights."
        )
    damaged: list[files.Path] = []
    for step in reversed(steps):
        folder = workdir / FOLDER / str(step)
        try:
            return read(folder), damaged
        except DamagedCheckpoint as error:
            damaged.append(folder)
            last = error
            if step != steps[0]:
                print(f"{error} Going on with the one before it.", file=sys.stderr, flush=True)
    if len(damaged) == 1:
        raise last
    raise DamagedCheckpoint(
        f"None of the {len(damaged)} checkpoints in '{workdir}' can be read: restore a copy of "
        f"'{workdir / FOLDER}', or delete it to start anew."
    )


def average_precisions(workdir: files.Path) -> dict[int, float]:
    """AP by step, of the evaluations during the training that are complete."""
    folder = workdir / EVALUATIONS
    found = folder.iterdir() if folder.is_dir() else ()
    return dict(_average_precisions(p for p in found if p.name.isdigit()))


def _average_precisions(folders: Iterator[files.Path]) -> Iterator[tuple[int, float]]:
    for folder in folders:
        try:
            yield int(folder.name), float(json.loads((folder / "metrics.json").read_text())["AP"])
        except (OSError, ValueError, KeyError):  # not finished
            continue


def drop_evaluations(workdir: files.Path, after: int) -> None:
    """Deletes the evaluations of steps later than `after`, left by a run that was cut off."""
    for step in [step for step in average_precisions(workdir) if step > after]:
        (workdir / EVALUATIONS / str(step) / "metrics.json").unlink()


def best_of(workdir: files.Path) -> int:
    """Step of the checkpoint with the highest AP, of equal ones the newest.

    Raises:
        UserError: none of the checkpoints was evaluated.
    """
    kept = set(steps_of(workdir))
    scores = {step: ap for step, ap in average_precisions(workdir).items() if step in kept}
    if not scores:
        raise UserError(
            f"'{workdir}' has no evaluated checkpoint: train with config.train.eval_every, "
            "or give the workdir itself for the newest."
        )
    return max(scores, key=lambda step: (scores[step], step))


@functools.cache
def silence_orbax() -> None:
    """Keeps Orbax's own accounts of what went wrong out of the logs; its errors are raised.

    Of a damaged checkpoint many reads fail: one is raised, the rest need no report.
    """
    logging.getLogger("asyncio").addFilter(lambda record: "never retrieved" not in record.msg)
    logging.getLogger("absl").addFilter(
        lambda record: record.levelno < logging.ERROR or "orbax" not in record.pathname
    )


def read_item(folder: files.Path, item: str) -> dict[str, Any]:
    """One part of a checkpoint; its arrays were saved from, and come back as, NumPy.

    Raises:
        UserError: there is no such folder.
        DamagedCheckpoint: the part cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"No checkpoint '{folder}': give a step that was saved.")
    silence_orbax()
    handler = ocp.JsonCheckpointHandler() if item in JSON_ITEMS else ocp.PyTreeCheckpointHandler()
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            return checkpointer.restore(folder / item)
    except Exception:  # Orbax and TensorStore raise many kinds.
        raise DamagedCheckpoint(
            f"The checkpoint '{folder}' is damaged (its {item} cannot be read)."
        ) from None


def load_variables(path: str | os.PathLike) -> tuple[ConfigDict, Variables]:
    """The config and the variables of a trained model, without its optimiser.

    Args:
        path: a workdir (its newest readable checkpoint is read), WORKDIR/best for the one of
            the highest AP, one checkpoint's step folder, what `save_variables` wrote, or a
            file of released weights.

    Returns:
        The config, locked, and {"params", "batch_stats"} as NumPy arrays.

    Raises:
        UserError: there is no checkpoint.
        DamagedCheckpoint: it is damaged, or all of the workdir's are.
    """
    if released_files.is_one(path):
        return released_files.read(path)
    path = files.to_path(path)
    if (path / "variables").is_dir():
        return _read_variables(path)
    if path.name == BEST and (path.parent / FOLDER).is_dir():
        step = best_of(path.parent)
        return _read_variables(path.parent / FOLDER / str(step))
    return newest_readable(path, _read_variables)[0]


def load_newest(path: str | os.PathLike, config: ConfigDict) -> tuple[str, ConfigDict, Variables]:
    """`load_variables` with the name of the checkpoint that was read, for people to read.

    Args:
        path: as of `load_variables`.
        config: which a file of released weights, that carries none, must fit.
    """
    if released_files.is_one(path):
        return str(path), *released_files.read(path, config)

    def read(folder: files.Path) -> tuple[str, ConfigDict, Variables]:
        step = f" (step {folder.name})" if folder.name.isdigit() else ""
        return f"{folder}{step}", *load_variables(folder)

    workdir = files.to_path(path)
    if (workdir / FOLDER).is_dir():
        return newest_readable(workdir, read)[0]
    return read(workdir)


def load_state(folder: str | os.PathLike, template: State) -> State:
    """The state that a run or `save_state` wrote, as NumPy in the form of `template`.

    Raises:
        UserError: no checkpoint, or one of another model.
        DamagedCheckpoint: a part of it cannot be read.
    """
    folder = files.to_path(folder)
    read_position(folder)  # so that damage in the small parts is found, and found first
    saved = read_item(folder, "variables") | read_item(folder, "training")
    saved = traverse_util.flatten_dict(saved)
    wanted = named_leaves(template)
    check_same(saved, wanted, folder, "use the config it was trained with, or another workdir")
    leaves = [np.asarray(saved[name], leaf.dtype) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def read_position(folder: str | os.PathLike) -> dict[str, int]:
    """What `save` was given with a checkpoint; of older checkpoints, what is known."""
    folder = files.to_path(folder)
    config = read_item(folder, "config")
    known = {"seed": config["seed"], "batch_size": config["train"]["batch_size"]}
    has_position = (folder / "position").is_dir()
    return known | (read_item(folder, "position") if has_position else {})


def check_same(saved: Mapping, wanted: Mapping, where: str | os.PathLike, mend: str) -> None:
    """UserError unless two flat trees, leaf by name tuple, have the same names and shapes."""

    def shape(tree, name):
        return str(np.shape(tree[name])).replace(" ", "") if name in tree else "absent"

    names = [*wanted, *(name for name in saved if name not in wanted)]
    different = [name for name in names if shape(saved, name) != shape(wanted, name)]
    if not different:
        return
    # The optimiser mirrors the parameters: its differences would only repeat theirs.
    first = sorted(different, key=lambda name: name[0] not in VARIABLES)[:NAMED_DIFFERENCES]
    listed = "; ".join(
        f"{'/'.join(name)} is {shape(saved, name)} there and {shape(wanted, name)} here"
        for name in first
    )
    more = f"; and {len(different) - len(first)} more" if len(different) > len(first) else ""
    raise UserError(f"The checkpoint '{where}' is of another config ({listed}{more}): {mend}.")


def named_leaves(state: Any) -> dict[tuple[str, ...], Any]:
    """Leaf by name, e.g. ("opt_state", "0", "mu", "conv", "kernel"), in tree order."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, leaf in leaves
    }


def _read_variables(folder: files.Path) -> tuple[ConfigDict, Variables]:
    config = config_from_json(read_item(folder, "config"), folder)
    variables = read_item(folder, "variables")
    # Besides, there may be a scoring net.
    return config, {name: {} for name in VARIABLES} | variables
