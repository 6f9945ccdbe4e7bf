"""A loss or gradient that is not finite: the run keeps the step before it and reports.

WORKDIR/nonfinite/STEP/            a checkpoint of the state before STEP
WORKDIR/nonfinite/STEP/batch_P.npz the batch of process P in STEP
WORKDIR/nonfinite/STEP/report.json its image ids and metrics
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax.runtime import files, hosts
from pinet_jax.training.step import TrainState
from pinet_jax.weights import checkpoints
from pinet_jax.weights.reading import Position

FOLDER = "nonfinite"  # in a workdir


def save_report(
    workdir: files.Path,
    state: TrainState,
    batch: Mapping[str, np.ndarray],
    metrics: Mapping[str, Any],
    config: ConfigDict,
    position: Position,
) -> files.Path:
    """Writes what reproduces a bad step.

    Args:
        workdir: of the training.
        state: before the step.
        batch: this process's share of it, image_id included.
        metrics: of the step.
        config: of the training.
        position: the place in the data before the step.

    Returns:
        The folder.
    """
    step = int(state.step) + 1
    folder = files.make_folder(workdir / FOLDER) / str(step)
    checkpoints.save_state(folder, state, config, position)
    with files.replacing(folder / f"batch_{jax.process_index()}.npz") as temporary:
        np.savez(temporary, **batch)
    report = {
        "step": step,
        "image_ids": hosts.gather(np.asarray(batch["image_id"]).tolist()),
        "metrics": {name: str(float(value)) for name, value in metrics.items()},
    }
    if hosts.is_main():
        files.write_text(folder / "report.json", json.dumps(report, indent=2) + "\n")
    return folder


def load_batch(folder: files.Path) -> dict[str, np.ndarray]:
    """The whole batch of a report, the shares of all processes in their order."""
    count = len(list(folder.glob("batch_*.npz")))
    shares = [_load(folder / f"batch_{process}.npz") for process in range(count)]
    return {name: np.concatenate([share[name] for share in shares]) for name in shares[0]}


def earlier(workdir: files.Path, step: int) -> files.Path | None:
    """The report of the first bad step after `step` that a start before this one met."""
    folder = workdir / FOLDER
    steps = [int(p.name) for p in folder.iterdir()] if folder.is_dir() else []
    return min(
        (folder / str(s) for s in steps if s > step), key=lambda p: int(p.name), default=None
    )


def _load(path: files.Path) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(path.read_bytes())) as arrays:
        return dict(arrays)
