"""Training states on disk: saving in the background, keeping, restoring.

    WORKDIR/config.json                 the run's config
    WORKDIR/checkpoints/STEP/variables  params and batch_stats
    WORKDIR/checkpoints/STEP/training   the rest of the state: step, opt_state, ...
    WORKDIR/checkpoints/STEP/position   the place in the data
    WORKDIR/checkpoints/STEP/config     a copy of the config
    WORKDIR/damaged_checkpoints/STEP    put aside, unreadable

A checkpoint of variables alone, such as converted weights, is one such STEP folder
without `training` and `position`, anywhere.

Arrays are written from host memory under their names in the state's tree, so that
a state can be any pytree with fields `step`, `params` and `batch_stats`, and a
checkpoint can be read on any number of devices.
"""

import contextlib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers as policies

from pinet_jax.errors import UserError
from pinet_jax.runtime import files, hosts
from pinet_jax.weights import reading
from pinet_jax.weights.reading import DamagedCheckpoint, load_config, read_item, save_config

__all__ = [
    "Checkpoints",
    "check_same",
    "load_config",
    "load_state",
    "load_variables",
    "read_position",
    "save_config",
    "save_state",
    "save_variables",
]

State = TypeVar("State")
Variables = dict[str, Any]  # {"params": tree, "batch_stats": tree} of NumPy arrays
Position = Mapping[str, int]  # what reproduces the place in the data

VARIABLES = ("params", "batch_stats")
DAMAGED = "damaged_checkpoints"
NAMED_DIFFERENCES = 3  # at most, in the error for a checkpoint of another model


class Checkpoints:
    """The checkpoints of one run; all its processes make the same calls.

    Args:
        workdir: the run's folder, made if absent.
        keep: how many of the newest checkpoints stay. The one of the highest AP in
            WORKDIR/eval_steps/STEP/metrics.json stays besides.

    Raises:
        UserError: the folder cannot be written to, or `keep` is not positive.
    """

    def __init__(self, workdir: str | os.PathLike, keep: int):
        if keep < 1:
            raise UserError(f"config.train.keep_checkpoints is {keep}: keep at least 1.")
        self.workdir = files.make_folder(workdir)
        self.folder = files.make_folder(self.workdir / reading.FOLDER)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep), _BestEvaluated(self.workdir)]
            ),
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._saving: int | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_exception) -> None:
        try:
            self.close()
        except UserError as error:
            if kind is None:
                raise
            print(error, file=sys.stderr)  # after the first error, which is on its way

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, state: Any, position: Position | None = None) -> None:
        """Starts writing `state` and returns; a step already on disk is left as it is.

        The state is copied first: the caller may donate its buffers at once. The
        workdir's config goes along, so `save_config` comes first.

        Raises:
            UserError: the disk did not take this save or the one before.
        """
        tree = _named(state)
        step = int(tree[("step",)])
        if step in self._manager.all_steps():
            return
        items = _items(tree, load_config(self.workdir), position)
        self.wait()
        self._saving = step
        with self._errors():
            self._manager.save(step, args=items)

    def check(self) -> None:
        """UserError if a save in the background has failed; it costs nothing to ask."""
        if self._saving is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def restore(self, template: State, step: int | None = None) -> State:
        """The newest readable state, or that of `step`, as NumPy in the form of `template`.

        Damaged checkpoints newer than it are named, and moved to WORKDIR/damaged_checkpoints
        so that their steps can be saved again.

        Args:
            template: a state, or its shapes from `jax.eval_shape`.

        Raises:
            UserError: no checkpoint, or one of another model.
            DamagedCheckpoint: none can be read, or that of `step` cannot.
        """
        self.wait()
        if step is not None:
            return load_state(self.folder / str(step), template)
        if self.latest_step() is None:
            raise UserError(f"No checkpoint in '{self.workdir}': train there first.")
        state, damaged = reading.newest_readable(
            self.workdir, lambda folder: _together(load_state, folder, template)
        )
        self._put_aside(damaged)
        return state

    def position(self, step: int) -> dict[str, int]:
        """`read_position` of the checkpoint of `step`."""
        return read_position(self.folder / str(step))

    def wait(self) -> None:
        """Returns when everything saved so far is on disk; raises what `save` does."""
        with self._errors():
            self._manager.wait_until_finished()
        self._saving = None

    def close(self) -> None:
        """Waits for the last save and stops the writing threads; raises what `save` does."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # the same error again
                self._manager.close()

    def _put_aside(self, damaged: list[files.Path]) -> None:
        if not damaged:
            return
        if hosts.is_main():
            aside = files.make_folder(self.workdir / DAMAGED)
            for folder in damaged:
                _remove(aside / folder.name)
                folder.rename(aside / folder.name)
                print(f"moved '{folder}' to '{aside}'", file=sys.stderr, flush=True)
        hosts.gather([])  # the others look when it is done
        self._manager.reload()

    @contextlib.contextmanager
    def _errors(self):
        """Orbax's error of a failed save as a UserError, with no half a checkpoint left."""
        try:
            yield
        except Exception as error:
            if hosts.is_main():
                for part in self.folder.glob(f"{self._saving}.*tmp*"):
                    _remove(part)
            whole = reading.steps_of(self.workdir)
            goes_on = f"which goes on from step {whole[-1]}" if whole else "from the beginning"
            raise UserError(
                f"Cannot write the checkpoint of step {self._saving} in '{self.folder}' "
                f"({_reason(error)}): free some space there and start again, {goes_on}."
            ) from None


class _BestEvaluated(policies.PreservationPolicy):
    """Keeps the checkpoint of the highest AP; the AP comes after its checkpoint is saved."""

    def __init__(self, workdir: files.Path):
        self._workdir = workdir

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        scores = reading.average_precisions(self._workdir)
        steps = [info.step for info in checkpoints]
        best = max((s for s in steps if s in scores), key=lambda s: (scores[s], s), default=None)
        return [step == best for step in steps]


def load_variables(path: str | os.PathLike) -> tuple[ConfigDict, Variables]:
    """The config and the variables of a trained model, without its optimiser.

    Args:
        path: a workdir (its newest readable checkpoint is read), WORKDIR/best for the one of
            the highest AP, one checkpoint's step folder, or what `save_variables` wrote.

    Returns:
        The config, locked, and {"params", "batch_stats"} as NumPy arrays.

    Raises:
        UserError: there is no checkpoint.
        DamagedCheckpoint: it is damaged, or all of the workdir's are.
    """
    path = files.to_path(path)
    if (path / "variables").is_dir():
        return _read_variables(path)
    if path.name == reading.BEST and (path.parent / reading.FOLDER).is_dir():
        step = reading.best_of(path.parent)
        return _read_variables(path.parent / reading.FOLDER / str(step))
    return reading.newest_readable(path, _read_variables)[0]


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
        config=ocp.args.JsonSave(config.to_dict()),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(folder, args=items, force=True)


def save_state(
    folder: str | os.PathLike, state: Any, config: ConfigDict, position: Position
) -> None:
    """Writes one checkpoint as a run does, in place of what `folder` held."""
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = _items(_named(state), config, position)
        checkpointer.save(files.to_path(folder), args=items, force=True)


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
    wanted = _named(template)
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


def _named(state: Any) -> dict[tuple[str, ...], Any]:
    """Leaf by name, e.g. ("opt_state", "0", "mu", "conv", "kernel"), in tree order."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, leaf in leaves
    }


def _items(tree: Mapping[tuple, Any], config: ConfigDict, position: Position | None):
    """The parts of a checkpoint for Orbax, of arrays copied to the host."""
    # np.array copies, where np.asarray would alias CPU buffers about to be donated.
    host = {name: np.array(leaf) for name, leaf in tree.items()}
    variables = {name: leaf for name, leaf in host.items() if name[0] in VARIABLES}
    training = {name: leaf for name, leaf in host.items() if name[0] not in VARIABLES}
    items = {
        "variables": ocp.args.PyTreeSave(traverse_util.unflatten_dict(variables)),
        "training": ocp.args.PyTreeSave(traverse_util.unflatten_dict(training)),
        "config": ocp.args.JsonSave(config.to_dict()),
    }
    if position is not None:
        items["position"] = ocp.args.JsonSave(dict(position))
    return ocp.args.Composite(**items)


def _read_variables(folder: files.Path) -> tuple[ConfigDict, Variables]:
    config = reading.config_from_json(read_item(folder, "config"), folder)
    variables = read_item(folder, "variables")
    return config, {name: variables.get(name, {}) for name in VARIABLES}


def _together(read, folder: files.Path, *arguments):
    """`read`; damaged for all the processes where it is for one, so that they stay alike."""
    result, error = None, None
    try:
        result = read(folder, *arguments)
    except UserError as raised:
        error = raised
    if hosts.any_process(error is not None):
        raise error or DamagedCheckpoint(f"The checkpoint '{folder}' is damaged elsewhere.")
    return result


def _remove(folder: files.Path) -> None:
    """A folder with all in it, if it is there."""
    epath.Path(folder).rmtree(missing_ok=True)


def _reason(error: BaseException) -> str:
    """The system's words in an error of Orbax or TensorStore."""
    seen = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(number[1])) if number else " ".join(str(error).split())[:200]
