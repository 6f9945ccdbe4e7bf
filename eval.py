"""Evaluates a trained PINet on config.dataset.eval_split, or scores a results file.

    eval.py --config configs/NAME.py --workdir DIR [--config.a.b=c ...]
    eval.py --config configs/NAME.py --checkpoint DIR --out DIR
    eval.py --config configs/NAME.py --results FILE [--annotations FILE] [--out DIR]

Prints the metrics of the data's protocol and AP by crowding, and writes OUT/results.json
(COCO results format), OUT/metrics.json, OUT/report.html, which opens in any browser,
OUT/crowding.png and OUT/predictions.png. OUT is WORKDIR/eval_SPLIT unless given. Scoring a
file needs no model; it writes metrics.json, report.html and crowding.png, and only where
--out says.
"""

import pathlib

from absl import flags
from ml_collections import ConfigDict

from pinet_jax import program
from pinet_jax.errors import UserError
from pinet_jax.runtime import files, hosts

WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of train.py; its newest checkpoint.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A checkpoint, instead of --workdir.")
RESULTS = flags.DEFINE_string("results", None, "A COCO-format results file, instead of a model.")
ANNOTATIONS = flags.DEFINE_string(
    "annotations", None, "Ground truth of --results; that of config.dataset unless given."
)
COMPARE_FUSION = flags.DEFINE_bool(
    "compare_fusion", False, "Evaluate without pose fusion, then with it."
)
OUT = flags.DEFINE_string("out", None, "Folder for results; WORKDIR/eval_SPLIT unless given.")


def main(_: list[str]) -> None:
    """Runs the program."""
    if [WORKDIR.value, CHECKPOINT.value, RESULTS.value].count(None) != 2:
        raise UserError(
            "Give the model as --workdir or as --checkpoint, or a results file as --results: "
            "one of them."
        )
    if ANNOTATIONS.value and not RESULTS.value:
        raise UserError("--annotations goes with --results: a model is scored on config.dataset.")
    config = program.config_from_flags()
    if RESULTS.value:
        _score_file(config)
    else:
        _evaluate_model(config)


def _score_file(config: ConfigDict) -> None:
    from pinet_jax.evaluation import loop as eval_loop
    from pinet_jax.evaluation import results as results_files

    results = results_files.read_results(RESULTS.value)
    annotations = ANNOTATIONS.value or eval_loop.annotations_path(config)
    if annotations is None:
        raise UserError(
            f"There is no ground truth of {config.dataset.eval_split}: its benchmark's server "
            "scores the results; give --annotations or another config.dataset.eval_split."
        )
    header = {"results": RESULTS.value}
    load_images = None
    if not ANNOTATIONS.value:
        header["data"] = f"{config.dataset.name} {config.dataset.eval_split}"
        load_images = eval_loop.image_loader(config)
    eval_loop.score(
        *(config, results, annotations, OUT.value),
        name=f"'{RESULTS.value}'",
        header=header,
        load_images=load_images,
    )
    if OUT.value:
        print(f"scores: {OUT.value}", flush=True)


def _evaluate_model(config: ConfigDict) -> None:
    from pinet_jax.evaluation import loop as eval_loop

    path = WORKDIR.value or CHECKPOINT.value
    model, trained, variables = _load(path)
    eval_loop.check_same_model(config, trained)
    out = pathlib.Path(OUT.value or pathlib.Path(path) / f"eval_{config.dataset.eval_split}")
    _say(eval_loop.describe_split(config))
    if COMPARE_FUSION.value:
        config.eval.pose_fusion = False
        _evaluate(config, variables, out / "without_fusion", model)
        config.eval.pose_fusion = True
    _evaluate(config, variables, out, model)


def _load(path: str) -> tuple[str, ConfigDict, dict]:
    """The name of the checkpoint that is read, its config and its variables."""
    from pinet_jax.weights import checkpoints, reading

    def read(folder: files.Path) -> tuple[str, ConfigDict, dict]:
        step = f" (step {folder.name})" if folder.name.isdigit() else ""
        return f"{folder}{step}", *checkpoints.load_variables(folder)

    workdir = files.to_path(path)
    if (workdir / reading.FOLDER).is_dir():
        return reading.newest_readable(workdir, read)[0]
    return read(workdir)


def _evaluate(config: ConfigDict, variables: dict, out: pathlib.Path, model: str) -> None:
    from pinet_jax.evaluation import loop as eval_loop

    _say(f"{'with' if config.eval.pose_fusion else 'without'} pose fusion:")
    eval_loop.evaluate(config, variables, out, model)
    _say(f"results and pictures: {out}")


def _say(text: str) -> None:
    """Once, however many processes there are."""
    if hosts.is_main():
        print(text, flush=True)


if __name__ == "__main__":
    program.run(main)
