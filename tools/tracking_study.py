"""How well the methods of tracking keep identities on synthetic videos of every kind.

    tools/tracking_study.py [--kinds fast,pan --methods oks,flow --max_ages 0,15 --videos 8]
        [--checkpoint WORKDIR] [--out FILE.json] [--config.tracking.FIELD=VALUE]

People come from a simulated detector, the truth with noise, misses and duplicates, or with
--checkpoint from a model. Prints MOTA, IDF1, HOTA and switches of each kind, method and
max_age, by OKS (docs/tracking.md).
"""

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from absl import flags
from ml_collections import ConfigDict

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from input_pipeline.synthvideo import detector, render, truth
from input_pipeline.synthvideo.kinds import KINDS
from input_pipeline.synthvideo.render import Frames
from pinet_jax import program, skeletons
from pinet_jax.config import load_config, with_fields
from pinet_jax.errors import UserError
from pinet_jax.inference.predictor import Predictor
from pinet_jax.runtime import files, tables
from pinet_jax.runtime.progress import Progress
from pinet_jax.tracking import methods, posetrack
from pinet_jax.tracking.scoring import protocols
from pinet_jax.tracking.scoring.pairs import Both, scored_frames
from pinet_jax.tracking.tracker import follow
from pinet_jax.weights import reading

WANTED = flags.DEFINE_list("kinds", list(KINDS), "Kinds of videos.")
METHODS = flags.DEFINE_list("methods", list(methods.NAMES), "Methods of tracking.")
MAX_AGES = flags.DEFINE_list("max_ages", ["0", "15"], "Values of config.tracking.max_age.")
VIDEOS = flags.DEFINE_integer("videos", 8, "Held-out videos of each kind.", lower_bound=1)
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Model that detects; else simulated.")
OUT = flags.DEFINE_string("out", None, "JSON file for the scores.")

COLUMNS = ("MOTA", "IDF1", "HOTA", "IDSW", "FP", "FN")


def main(arguments: list[str]) -> None:
    """Runs the program."""
    config, predictor = _config_and_predictor(arguments)
    ages = _numbers(MAX_AGES.value)
    scores: dict[str, Any] = {}
    rows = [["kind", "method", "max_age", *COLUMNS]]
    for kind in WANTED.value:
        render.check(config, kind, "val")
        seen = list(_videos(config, predictor, kind))
        for method in METHODS.value:
            for age in ages:
                changes = {"tracking.method": method, "tracking.max_age": age}
                score = _score(seen, with_fields(config, changes), predictor)
                scores[f"{kind} {method} {age}"] = score
                rows.append([kind, method, str(age), *(f"{score[c]:.4g}" for c in COLUMNS)])
                print(tables.aligned([rows[0], rows[-1]]), flush=True)
    print(f"\n{tables.aligned(rows)}")
    if OUT.value:
        files.write_text(OUT.value, json.dumps(scores, indent=2) + "\n")


def _config_and_predictor(arguments: list[str]) -> tuple[ConfigDict, Predictor | None]:
    config, variables = load_config("base"), None
    if CHECKPOINT.value:
        config, variables = reading.load_variables(CHECKPOINT.value)
    rest = program.override(config, arguments)[1:]
    if rest:
        raise UserError(f"'{rest[0]}': give flags only.")
    if skeletons.of(config) != skeletons.COCO:
        raise UserError("--checkpoint: synthetic people have COCO keypoints, the model others.")
    program.enable_compilation_cache(config)
    return config, Predictor(config, variables) if variables else None


def _numbers(texts: list[str]) -> list[int]:
    try:
        return [int(text) for text in texts]
    except ValueError:
        raise UserError("--max_ages: give whole numbers, as in --max_ages=0,15.") from None


def _videos(
    config: ConfigDict, predictor: Predictor | None, kind: str
) -> Iterator[tuple[Frames, posetrack.Video, list]]:
    """Videos of a kind with their truth and what is detected in them."""
    least = KINDS[kind].min_seen
    with Progress(VIDEOS.value, f"render {kind}") as progress:
        for number, video in enumerate(render.videos(config, kind, "val", VIDEOS.value)):
            names = [f"{frame}.jpg" for frame in range(len(video.images))]
            content = truth.annotations(video, least, names)
            known = posetrack.from_json(content, pathlib.Path(f"{kind}_{number:02d}"))
            found = (
                predictor(list(video.images))
                if predictor
                else detector.detect(video, least, (config.seed, list(KINDS).index(kind), number))
            )
            yield video, known, found
            progress.update()


def _score(seen: list, config: ConfigDict, predictor: Predictor | None) -> dict[str, float]:
    """All videos tracked by one method, scored together."""
    linker = methods.build(config, predictor)
    videos = {}
    for video, known, found in seen:
        tracked = follow(zip(video.images, found, strict=True), linker, config)
        videos[known.name] = _beside_truth([people for _, people in tracked], known)
    return protocols.oks_protocol(videos, skeletons.COCO.sigmas)["combined"]


def _beside_truth(people: list, known: posetrack.Video) -> list[Both]:
    names = [{"file_name": frame.file_name} for frame in known.frames]
    content = posetrack.write_json(names, people, skeletons.COCO)
    return scored_frames(known, posetrack.from_json(content, pathlib.Path(known.name)))


if __name__ == "__main__":
    program.run(main, known_flags_only=True)
