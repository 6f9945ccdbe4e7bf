"""The numbers of a training: one JSON line a step, and TensorBoard events."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorboardX

from pinet_jax import files
from pinet_jax.errors import UserError

FILE_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends to WORKDIR/metrics.jsonl and to WORKDIR/tensorboard.

    Args:
        workdir: the run's folder, made if absent.
        resume_step: step the training goes on from; lines of later steps, left by
            the run that was cut off, are dropped. 0 starts anew.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(self, workdir: str | os.PathLike, resume_step: int = 0):
        folder = files.make_folder(workdir)
        path = folder / FILE_NAME
        if path.exists():
            _drop_after(path, resume_step)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        # purge_step hides the events of the same dropped steps.
        self._events = tensorboardX.SummaryWriter(
            str(folder / "tensorboard"), purge_step=resume_step + 1
        )

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Logs scalars (Python, NumPy or JAX) of `step`; on disk when it returns."""
        values = {name: float(value) for name, value in metrics.items()}
        # JSON has no NaN and no infinity.
        record = {name: v if math.isfinite(v) else None for name, v in values.items()}
        self._file.write(json.dumps({"step": int(step), **record}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, int(step))

    def close(self) -> None:
        """Writes what is still waiting and closes the files."""
        self._file.close()
        self._events.close()


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a last line cut short by a crash is left out.

    Raises:
        UserError: the file cannot be read, or a line inside it is not a record.
    """
    path = pathlib.Path(path)
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


def _drop_after(path: pathlib.Path, step: int) -> None:
    kept = [record for record in read_metrics(path) if record["step"] <= step]
    files.write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
