"""One run of a study: a training of one seed, and what its checkpoints find, with and without PF.

A run has a folder. It trains there as train.py does, so that a stopped one goes on, and leaves
COCO results files; those of a finished run are never computed again.
"""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.config import save_config, with_fields
from pinet_jax.data import Data
from pinet_jax.evaluation.results import coco_results
from pinet_jax.inference.fusion import People
from pinet_jax.inference.predict import join_people
from pinet_jax.runtime import devices, files
from pinet_jax.runtime.progress import Progress
from pinet_jax.studies.rows import TRAININGS
from pinet_jax.training import loop
from pinet_jax.weights.reading import load_variables

OpenData = Callable[[ConfigDict], Data]  # what a config names
FUSED = {True: "fused", False: "unfused"}  # names of results files
FINAL = 1.0  # share of a training


@dataclasses.dataclass(frozen=True)
class Run:
    """A training of one seed.

    Attributes:
        training: key of rows.TRAININGS.
        seed: of its weights and its scenes.
    """

    training: str
    seed: int

    def folder(self, out: pathlib.Path) -> pathlib.Path:
        """Where it happens."""
        return out / "runs" / f"{self.training}_{self.seed}"


def training_config(config: ConfigDict, run: Run) -> ConfigDict:
    """The config that the run trains with: the study's, its row's overrides, its seed."""
    study = config.study
    steps = total_steps(config)
    common = {
        "seed": run.seed,
        "train.epochs": study.images / config.synthcrowd.num_train,
        # The checkpoints that are scored are the newest ones there are.
        "train.checkpoint_every": math.gcd(*(steps_at(config, s) for s in study.scored_at)),
        "train.keep_checkpoints": steps,
        "eval.pose_fusion": True,
    }
    return with_fields(config, common | dict(TRAININGS[run.training]))


def total_steps(config: ConfigDict) -> int:
    """Steps of every training."""
    return round(config.study.images / config.train.batch_size)


def steps_at(config: ConfigDict, share: float) -> int:
    """Steps after that share of a training."""
    return round(share * total_steps(config))


def held_out(config: ConfigDict, level: float | None = None) -> ConfigDict:
    """The config of the scenes that all runs are scored on.

    Args:
        config: the study's.
        level: wanted box IoU of other scenes than the study's own.
    """
    study = config.study
    fields = {
        "dataset.name": "synthcrowd",
        "synthcrowd.num_train": 1,  # nothing is trained on them
        "synthcrowd.num_val": study.scenes if level is None else study.scenes_a_level,
    }
    return with_fields(config, fields | ({} if level is None else {"synthcrowd.pair_iou": level}))


def train(config: ConfigDict, run: Run, out: pathlib.Path, open_data: OpenData) -> None:
    """Trains to the end, from the newest checkpoint; raises Stopped as `training.loop.train`."""
    trained = training_config(config, run)
    folder = run.folder(out)
    save_config(files.make_folder(folder), trained)
    loop.train(trained, str(folder), open_data(trained))


def results_file(
    run: Run, out: pathlib.Path, share: float, fused: bool, level: float | None = None
) -> pathlib.Path:
    """Where the results of a checkpoint are: of the study's scenes or of another level's."""
    scenes = "" if level is None else f"_iou{level:g}"
    return run.folder(out) / "results" / f"at{share:g}{scenes}_{FUSED[fused]}.json"


def to_predict(config: ConfigDict) -> list[tuple[float, float | None]]:
    """(share of the training, level of crowding) of all predictions of a run."""
    study = config.study
    return [*((share, None) for share in study.scored_at), *((FINAL, lv) for lv in study.levels)]


def predict(config: ConfigDict, run: Run, out: pathlib.Path, open_data: OpenData) -> None:
    """Writes the results files that are not there yet."""
    trained = training_config(config, run)
    find = _finder(trained)
    for share, level in to_predict(config):
        paths = {fused: results_file(run, out, share, fused, level) for fused in FUSED}
        if all(path.is_file() for path in paths.values()):
            continue
        checkpoint = run.folder(out) / "checkpoints" / str(steps_at(config, share))
        _, variables = load_variables(checkpoint)
        data = open_data(held_out(config, level))
        results = _results(find, variables, data, trained.eval.max_detections)
        files.make_folder(paths[True].parent)
        for fused, path in paths.items():
            files.write_text(path, json.dumps(results[fused]))


def _finder(config: ConfigDict) -> Callable[..., dict[bool, People]]:
    """The compiled prediction: candidates once, joined with PF and without."""
    method = methods.of(config)
    model = method.build(config)
    settings = {fused: with_fields(config, {"eval.pose_fusion": fused}) for fused in FUSED}

    def both(variables: Mapping[str, Any], images: tuple, to_image: jax.Array) -> dict:
        found = method.find_candidates(model, variables, images, to_image, config)
        return {fused: join_people(found, variables, settings[fused])[0] for fused in FUSED}

    @jax.jit
    def find(variables: Mapping[str, Any], images: tuple, to_image: jax.Array) -> dict:
        return devices.map_at_once(functools.partial(both, variables), images, to_image)

    return find


def _results(
    find: Callable[..., dict[bool, People]], variables: Mapping[str, Any], data: Data, most: int
) -> dict[bool, list[dict]]:
    """COCO-format results of every image, by rising image id and falling score."""
    results: dict[bool, list[dict]] = {fused: [] for fused in FUSED}
    variables = jax.device_put(variables)
    with Progress(data.num_eval_images(), f"predict {data.eval_name}") as progress:
        for batch in data.eval_batches():
            found = jax.device_get(find(variables, batch.images, batch.to_image))
            rows = np.flatnonzero(batch.valid).tolist()
            for fused, people in found.items():
                for row in rows:
                    results[fused] += coco_results(batch.image_id[row], people.of_image(row), most)
            progress.update(len(rows))
    return {f: sorted(r, key=lambda result: result["image_id"]) for f, r in results.items()}
