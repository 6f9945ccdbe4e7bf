"""Evaluates a trained PINet on config.dataset.eval_split.

    eval.py --config configs/NAME.py --workdir DIR [--config.a.b=c ...]
    eval.py --config configs/NAME.py --checkpoint DIR --out DIR

Prints AP, AP50, AP75, AR and writes OUT/results.json (COCO results format),
OUT/metrics.json and OUT/predictions.png. OUT is WORKDIR/eval_SPLIT unless given.
"""

import pathlib

from absl import flags
from ml_collections import ConfigDict

from pinet_jax import checkpoints, eval_loop, evaluation, program
from pinet_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of train.py; its newest checkpoint.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A checkpoint, instead of --workdir.")
COMPARE_FUSION = flags.DEFINE_bool(
    "compare_fusion", False, "Evaluate without pose fusion, then with it."
)
OUT = flags.DEFINE_string("out", None, "Folder for results; WORKDIR/eval_SPLIT unless given.")


def main(_: list[str]) -> None:
    """Runs the program."""
    if bool(WORKDIR.value) == bool(CHECKPOINT.value):
        raise UserError("Give the model as --workdir or as --checkpoint, one of them.")
    config = program.config_from_flags()
    path = WORKDIR.value or CHECKPOINT.value
    trained, variables = checkpoints.load_variables(path)
    eval_loop.check_same_model(config, trained)
    split = config.dataset.eval_split
    out = pathlib.Path(OUT.value or pathlib.Path(path) / f"eval_{split}")
    print(eval_loop.describe_split(config), flush=True)
    if COMPARE_FUSION.value:
        config.eval.pose_fusion = False
        _evaluate(config, variables, out / "without_fusion")
        config.eval.pose_fusion = True
    _evaluate(config, variables, out)


def _evaluate(config: ConfigDict, variables: dict, out: pathlib.Path) -> None:
    metrics = eval_loop.evaluate(config, variables, out)
    print(f"{'with' if config.eval.pose_fusion else 'without'} pose fusion:")
    print(evaluation.table(metrics))
    print(f"results and pictures: {out}", flush=True)


if __name__ == "__main__":
    program.run(main)
