"""The numbers of a training: one JSON line a step, and TensorBoard events."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import tensorboardX

from pinet_jax.errors import UserError
from pinet_jax.runtime import files

FILE_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends to WORKDIR/metrics.jsonl and to WORKDIR/tensorboard.

    Args:
        workdir: the run's folder, made if absent.
        resume_step: step the training goes on from; lines of later steps, left by
            the run that was cut off, are dropped. 0 starts anew.
        writes: False in all processes of a run but one.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(self, workdir: str | os.PathLike, resume_step: int = 0, writes: bool = True):
        self._writes = writes
        if not writes:
            return
        folder = files.make_folder(workdir)
        self._path = folder / FILE_NAME
        if self._path.exists():
            _drop_after(self._path, resume_step)
        # purge_step hides the events of the same dropped steps.
        self._events = tensorboardX.SummaryWriter(
            str(folder / "tensorboard"), purge_step=resume_step + 1
        )

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Logs scalars (Python, NumPy or JAX) of `step`; on disk when it returns.

        Raises:
            UserError: the disk is full.
        """
        if not self._writes:
            return
        values = {name: float(value) for name, value in metrics.items()}
        # JSON has no NaN and no infinity.
        record = {name: v if math.isfinite(v) else None for name, v in values.items()}
        _append(self._path, json.dumps({"step": int(step), **record}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(name, value, int(step))

    def close(self) -> None:
        """Writes what is still waiting and closes the files."""
        if self._writes:
            self._events.close()


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a crash is left out.

    Raises:
        UserError: the file cannot be read, or a line inside it is not a record.
    """
    path = files.to_path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the metrics '{path}' ({error}).") from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            record["step"] = int(record["step"])
        except (ValueError, TypeError, KeyError):
            if number == len(lines):
                break
            raise UserError(f"'{path}' line {number} is not a record: remove it.") from None
        records.append(record)
    return records


def _drop_after(path: files.Path, step: int) -> None:
    kept = [record for record in read_metrics(path) if record["step"] <= step]
    files.write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def _append(path: files.Path, line: str) -> None:
    if files.is_cloud(path):  # where nothing can be appended
        return files.write_text(path, (path.read_text() if path.exists() else "") + line)
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line)
    except OSError as error:
        raise UserError(
            f"Cannot write '{path}' ({error.strerror}): free some space and start again."
        ) from None
