"""What lies in a checkpoint's folder, read and found; Orbax's formats, without its manager."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from pinet_jax.config import load_config as load_config_file
from pinet_jax.errors import UserError
from pinet_jax.runtime import files

Read = TypeVar("Read")

FOLDER = "checkpoints"  # in a workdir
EVALUATIONS = "eval_steps"  # in a workdir: STEP/metrics.json
BEST = "best"  # WORKDIR/best names the checkpoint of the highest AP
JSON_ITEMS = ("config", "position")

# Of a damaged checkpoint many reads fail: one is raised, the rest need no report. So do
# Orbax's own reports of a save that failed.
logging.getLogger("asyncio").addFilter(lambda record: "never retrieved" not in record.msg)
logging.getLogger("absl").addFilter(
    lambda record: record.levelno < logging.ERROR or "orbax" not in record.pathname
)


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
            f"No checkpoint in '{workdir}': give a workdir of train.py or one of its checkpoints."
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


def read_item(folder: files.Path, item: str) -> dict[str, Any]:
    """One part of a checkpoint; its arrays were saved from, and come back as, NumPy.

    Raises:
        UserError: there is no such folder.
        DamagedCheckpoint: the part cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"No checkpoint '{folder}': give a step that was saved.")
    handler = ocp.JsonCheckpointHandler() if item in JSON_ITEMS else ocp.PyTreeCheckpointHandler()
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            return checkpointer.restore(folder / item)
    except Exception:  # Orbax and TensorStore raise many kinds.
        raise DamagedCheckpoint(
            f"The checkpoint '{folder}' is damaged (its {item} cannot be read)."
        ) from None


def save_config(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Writes WORKDIR/config.json, making the folder if absent."""
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    files.write_text(files.make_folder(workdir) / "config.json", text)


def load_config(workdir: str | os.PathLike) -> ConfigDict:
    """The config in WORKDIR/config.json, locked; UserError if it is absent or damaged."""
    path = files.to_path(workdir) / "config.json"
    try:
        return config_from_json(json.loads(path.read_text(encoding="utf-8")), path)
    except OSError as error:
        raise UserError(f"Cannot read '{path}' ({error.strerror}): is it a workdir?") from None
    except (ValueError, AttributeError):
        raise UserError(f"'{path}' is damaged: write it anew by starting train.py.") from None


def config_from_json(tree: Mapping[str, Any], where: str | os.PathLike) -> ConfigDict:
    """The locked config of its JSON form.

    Fields that came into the library after it was written get the values of
    configs/base.py, and a line on standard error names them.
    """
    config = _tuples(tree)
    added = list(_fill(config, load_config_file("base").to_dict()))
    if added:
        print(
            f"'{where}' is older than config.{', config.'.join(added)}: "
            "taken from configs/base.py.",
            file=sys.stderr,
            flush=True,
        )
    return ConfigDict(config).lock()


def _tuples(value: Any) -> Any:
    """Configs hold tuples, never lists, so JSON's arrays are tuples."""
    if isinstance(value, Mapping):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _fill(config: dict, base: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Adds the fields of `base` that `config` lacks; yields their names."""
    for field, value in base.items():
        if field not in config:
            config[field] = value
            yield prefix + field
        elif isinstance(value, Mapping):
            yield from _fill(config[field], value, f"{prefix}{field}.")
