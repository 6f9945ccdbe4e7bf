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
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers as policies

from pinet_jax.config import read_config
from pinet_jax.errors import UserError
from pinet_jax.runtime import files, hosts
from pinet_jax.weights import reading
from pinet_jax.weights.reading import (
    VARIABLES,
    DamagedCheckpoint,
    Position,
    State,
    load_state,
    named_leaves,
    read_position,
)

DAMAGED = "damaged_checkpoints"


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
        reading.silence_orbax()
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
        tree = named_leaves(state)
        step = int(tree[("step",)])
        if step in self._manager.all_steps():
            return
        items = _items(tree, read_config(self.workdir), position)
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
        hosts.wait_for_all("damaged checkpoints put aside")
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


def save_variables(
    path: str | os.PathLike, config: ConfigDict, variables: Mapping[str, Any]
) -> None:
    """Writes a checkpoint for `load_variables`, whole or not at all.

    Args:
        path: a folder, absent or empty.
        config: of the model.
        variables: {"params", "batch_stats"}, of the model or of its backbone alone; a scoring
            net may be beside them.

    Raises:
        UserError: the folder holds something, or cannot be written to.
    """
    folder = check_new_checkpoint(path)
    items = ocp.args.Composite(
        variables=ocp.args.PyTreeSave(jax.tree.map(np.asarray, dict(variables))),
        config=ocp.args.JsonSave(config.to_dict()),
    )
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(folder, args=items, force=True)


def check_new_checkpoint(path: str | os.PathLike) -> files.Path:
    """The folder, made if absent; UserError if it holds something or cannot be written to."""
    folder = files.make_folder(path)
    if any(folder.iterdir()):
        raise UserError(f"The folder '{folder}' is not empty: name another one.")
    return folder


def save_state(
    folder: str | os.PathLike, state: Any, config: ConfigDict, position: Position
) -> None:
    """Writes one checkpoint as a run does, in place of what `folder` held."""
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = _items(named_leaves(state), config, position)
        checkpointer.save(files.to_path(folder), args=items, force=True)


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
