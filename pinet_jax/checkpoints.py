"""Training states and configs on disk; the only module that knows Orbax.

    WORKDIR/config.json                 the run's config
    WORKDIR/checkpoints/STEP/variables  params and batch_stats
    WORKDIR/checkpoints/STEP/training   the rest of the state: step, opt_state, ...
    WORKDIR/checkpoints/STEP/config     a copy of the config

A checkpoint of variables alone, such as converted weights, is one such STEP folder
without `training`, anywhere.

Arrays are written from host memory under their names in the state's tree, so that
a state can be any pytree with fields `step`, `params` and `batch_stats`, and a
checkpoint can be read on any number of devices.
"""

import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from ml_collections import ConfigDict

from pinet_jax import files
from pinet_jax.errors import UserError

State = TypeVar("State")
Variables = dict[str, Any]  # {"params": tree, "batch_stats": tree} of NumPy arrays

VARIABLES = ("params", "batch_stats")
NAMED_DIFFERENCES = 3  # at most, in the error for a checkpoint of another model

# Of a damaged checkpoint many reads fail: one is raised, the rest need no report.
logging.getLogger("asyncio").addFilter(lambda record: "never retrieved" not in record.msg)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        workdir: the run's folder, made if absent.
        keep: how many of the newest checkpoints stay.

    Raises:
        UserError: the folder cannot be written to, or `keep` is not positive.
    """

    def __init__(self, workdir: str | os.PathLike, keep: int):
        if keep < 1:
            raise UserError(f"config.train.keep_checkpoints is {keep}: keep at least 1.")
        self.workdir = files.make_folder(workdir)
        folder = files.make_folder(self.workdir / "checkpoints")
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, state: Any) -> None:
        """Starts writing `state` and returns; a step already on disk is left as it is.

        The state is copied first: the caller may donate its buffers at once. The
        workdir's config goes along, so `save_config` comes first.
        """
        tree = _named(state)
        step = int(tree[("step",)])
        if step in self._manager.all_steps():
            return
        # np.array copies, where np.asarray would alias CPU buffers about to be donated.
        host = {name: np.array(leaf) for name, leaf in tree.items()}
        variables = {name: leaf for name, leaf in host.items() if name[0] in VARIABLES}
        training = {name: leaf for name, leaf in host.items() if name[0] not in VARIABLES}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                variables=ocp.args.PyTreeSave(traverse_util.unflatten_dict(variables)),
                training=ocp.args.PyTreeSave(traverse_util.unflatten_dict(training)),
                config=ocp.args.JsonSave(_to_json(load_config(self.workdir))),
            ),
        )

    def restore(self, template: State, step: int | None = None) -> State:
        """The newest state, or that of `step`, as NumPy arrays in the form of `template`.

        Args:
            template: a state, or its shapes from `jax.eval_shape`.

        Raises:
            UserError: no checkpoint, a damaged one, or one of another model.
        """
        step = self.latest_step() if step is None else step
        if step is None:
            raise UserError(f"No checkpoint in '{self.workdir}': train there first.")
        folder = self.workdir / "checkpoints" / str(step)
        saved = _read_item(folder, "variables") | _read_item(folder, "training")
        saved = traverse_util.flatten_dict(saved)
        wanted = _named(template)
        check_same(saved, wanted, folder, "use the config it was trained with, or another workdir")
        leaves = [np.asarray(saved[name], leaf.dtype) for name, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def wait(self) -> None:
        """Returns when everything saved so far is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and stops the writing threads."""
        self._manager.wait_until_finished()
        self._manager.close()


def load_variables(path: str | os.PathLike) -> tuple[ConfigDict, Variables]:
    """The config and the variables of a trained model, without its optimiser.

    Args:
        path: a workdir (its newest checkpoint is read), one checkpoint's step folder, or
            what `save_variables` wrote.

    Returns:
        The config, locked, and {"params", "batch_stats"} as NumPy arrays.

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    folder = _step_folder(pathlib.Path(path).expanduser().absolute())
    config = _from_json(_read_item(folder, "config"))
    variables = _read_item(folder, "variables")
    return config, {name: variables.get(name, {}) for name in VARIABLES}


def save_variables(
    path: str | os.PathLike, config: ConfigDict, variables: Mapping[str, Any]
) -> None:
    """Writes a checkpoint for `load_variables`, whole or not at all.

    Args:
        path: a folder, absent or empty.
        config: of the model.
        variables: {"params", "batch_stats"}, of the model or of its backbone alone.

    Raises:
        UserError: the folder holds something, or cannot be written to.
    """
    folder = files.make_folder(path)
    if any(folder.iterdir()):
        raise UserError(f"The folder '{folder}' is not empty: name another one.")
    items = ocp.args.Composite(
        variables=ocp.args.PyTreeSave(jax.tree.map(np.asarray, dict(variables))),
        config=ocp.args.JsonSave(_to_json(config)),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(folder, args=items, force=True)


def save_config(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Writes WORKDIR/config.json, making the folder if absent."""
    text = json.dumps(_to_json(config), indent=2) + "\n"
    files.write_text(files.make_folder(workdir) / "config.json", text)


def load_config(workdir: str | os.PathLike) -> ConfigDict:
    """The config in WORKDIR/config.json, locked; UserError if it is absent or damaged."""
    path = pathlib.Path(workdir).expanduser() / "config.json"
    try:
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"Cannot read '{path}' ({error.strerror}): is it a workdir?") from None
    except (ValueError, AttributeError):
        raise UserError(f"'{path}' is damaged: write it anew by starting train.py.") from None


def _to_json(config: ConfigDict) -> dict[str, Any]:
    return config.to_dict()


def _from_json(tree: Mapping[str, Any]) -> ConfigDict:
    """Configs hold tuples, never lists, so JSON's arrays are tuples."""

    def tuples(value):
        if isinstance(value, Mapping):
            return {name: tuples(item) for name, item in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return ConfigDict(tuples(tree)).lock()


def _named(state: Any) -> dict[tuple[str, ...], Any]:
    """Leaf by name, e.g. ("opt_state", "0", "mu", "conv", "kernel"), in tree order."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, leaf in leaves
    }


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


def _step_folder(path: pathlib.Path) -> pathlib.Path:
    """The checkpoint folder that `path`, a workdir or a step folder, stands for."""
    if (path / "variables").is_dir():
        return path
    steps = [p for p in path.glob("checkpoints/*") if p.name.isdigit()]
    steps = [p for p in steps if ocp.utils.is_checkpoint_finalized(p)]
    if not steps:
        raise UserError(
            f"No checkpoint in '{path}': give a workdir of train.py or one of its checkpoints."
        )
    return max(steps, key=lambda p: int(p.name))


def _read_item(folder: pathlib.Path, item: str) -> dict[str, Any]:
    """One part of a checkpoint; its arrays were saved from, and come back as, NumPy."""
    if not folder.is_dir():
        raise UserError(f"No checkpoint '{folder}': give a step that was saved.")
    handler = ocp.JsonCheckpointHandler() if item == "config" else ocp.PyTreeCheckpointHandler()
    try:
        with ocp.Checkpointer(handler) as checkpointer:
            return checkpointer.restore(folder / item)
    except Exception:  # Orbax and TensorStore raise many kinds.
        raise UserError(
            f"The checkpoint '{folder}' is damaged (its {item} cannot be read): "
            "delete that folder to go on from the one before it."
        ) from None
