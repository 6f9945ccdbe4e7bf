"""Evaluates a trained PINet on config.dataset.eval_split, or scores results or tracks on disk.

    eval.py --config configs/NAME.py --workdir DIR [--config.a.b=c ...]
    eval.py --config configs/NAME.py --checkpoint DIR_OR_FILE --out DIR
    eval.py --config configs/NAME.py --results FILE [--annotations FILE] [--out DIR]
    eval.py --tracks DIR --annotations DIR [--out DIR]

Prints the metrics of the data's protocol and AP by crowding, and writes OUT/results.json
(COCO results format), OUT/metrics.json, OUT/report.html, which opens in any browser,
OUT/crowding.png and OUT/predictions.png. Comparisons write one such folder a way in OUT, and
OUT/comparison.json with the table that they print. OUT is WORKDIR/eval_SPLIT unless given.
Scoring a file needs no model; it writes metrics.json, report.html and crowding.png, and only
where --out says. Tracks, a PoseTrack JSON file a video, are scored by MOTA, IDF1 and
HOTA (docs/tracking.md); --config is needed for a skeleton of one's own only.
"""

import json
import pathlib

from absl import flags
from ml_collections import ConfigDict

from input_pipeline.source import Source
from pinet_jax import program, skeletons
from pinet_jax.config import check_same_model
from pinet_jax.errors import UserError
from pinet_jax.runtime import files, hosts

WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of train.py; its newest checkpoint.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A checkpoint or a file of released weights, instead of --workdir."
)
RESULTS = flags.DEFINE_string("results", None, "A COCO-format results file, instead of a model.")
TRACKS = flags.DEFINE_string("tracks", None, "A folder of tracks, instead of a model.")
ANNOTATIONS = flags.DEFINE_string(
    "annotations",
    None,
    "Ground truth of --results (else config.dataset's), or the folder of that of --tracks.",
)
COMPARE_FUSION = flags.DEFINE_bool(
    "compare_fusion", False, "Evaluate without pose fusion, then with it."
)
COMPARE_SUPPRESSION = flags.DEFINE_bool(
    "compare_suppression",
    False,
    "Evaluate DEKR's own suppression, that by OKS, and pose fusion, and where the model has a "
    "scoring net, each again with it.",
)
OUT = flags.DEFINE_string("out", None, "Folder for results; WORKDIR/eval_SPLIT unless given.")


def main(_: list[str]) -> None:
    """Runs the program."""
    if [WORKDIR.value, CHECKPOINT.value, RESULTS.value, TRACKS.value].count(None) != 3:
        raise UserError(
            "Give the model as --workdir or as --checkpoint, or a results file as --results, or "
            "tracks as --tracks: one of them."
        )
    if TRACKS.value:
        _score_tracks()
        return
    if ANNOTATIONS.value and not RESULTS.value:
        raise UserError(
            "--annotations goes with --results or --tracks: a model is scored on config.dataset."
        )
    config = program.config_from_flags()
    if RESULTS.value:
        _score_file(config)
    else:
        _evaluate_model(config)


def _score_tracks() -> None:
    from pinet_jax.tracking.scoring import run

    if not ANNOTATIONS.value:
        raise UserError("--tracks: give the folder of the ground truth as --annotations.")
    own = skeletons.of(program.config_from_flags()) if program.has_config() else None
    run.score(TRACKS.value, ANNOTATIONS.value, OUT.value, own)
    if OUT.value:
        print(f"scores: {OUT.value}", flush=True)


def _score_file(config: ConfigDict) -> None:
    from pinet_jax.evaluation import loop
    from pinet_jax.evaluation.results import read_results

    results = read_results(RESULTS.value)
    data = Source(config)
    annotations = ANNOTATIONS.value or data.eval_annotations()
    if annotations is None:
        raise UserError(
            f"There is no ground truth of {config.dataset.eval_split}: its benchmark's server "
            "scores the results; give --annotations or another config.dataset.eval_split."
        )
    header = {"results": RESULTS.value}
    load_images = None
    if not ANNOTATIONS.value:
        header["data"] = data.eval_name
        load_images = loop.image_loader(data)
    loop.score(
        config,
        results,
        annotations,
        OUT.value,
        name=f"'{RESULTS.value}'",
        header=header,
        load_images=load_images,
    )
    if OUT.value:
        print(f"scores: {OUT.value}", flush=True)


def _evaluate_model(config: ConfigDict) -> None:
    from pinet_jax.evaluation import comparison, loop
    from pinet_jax.weights.reading import load_newest
    from pinet_jax.weights.released_files import without_suffix

    path = WORKDIR.value or CHECKPOINT.value
    model, trained, variables = load_newest(path, config)
    check_same_model(config, trained)
    out = pathlib.Path(OUT.value or without_suffix(path) / f"eval_{config.dataset.eval_split}")
    data = Source(config)
    _say(loop.describe_split(config, data))
    ways = {"": config}
    if COMPARE_FUSION.value:
        ways = comparison.with_and_without_fusion(config)
    if COMPARE_SUPPRESSION.value:
        ways = comparison.suppressions(config, variables)
    scores = {}
    for name, settings in ways.items():
        folder = out if name in ("", "with_fusion") else out / name
        _say(f"{name.replace('_', ' ') or _fusion(settings)}:")
        scores[name] = loop.evaluate(settings, variables, data, folder, model)
        _say(f"results and pictures: {folder}")
    if len(ways) > 1 and hosts.is_main():
        files.write_text(files.to_path(out) / comparison.FILE_NAME, json.dumps(scores, indent=2))
        print(f"\n{comparison.table(scores)}", flush=True)


def _fusion(config: ConfigDict) -> str:
    return f"{'with' if config.eval.pose_fusion else 'without'} pose fusion"


def _say(text: str) -> None:
    """Once, however many processes there are."""
    if hosts.is_main():
        print(text, flush=True)


if __name__ == "__main__":
    program.run(main)
