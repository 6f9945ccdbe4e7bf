"""Evaluates a trained PINet on config.dataset.eval_split.

    eval.py --config configs/NAME.py --workdir DIR [--config.a.b=c ...]
    eval.py --config configs/NAME.py --checkpoint DIR --out DIR

Prints AP, AP50, AP75, AR and writes OUT/results.json (COCO results format),
OUT/metrics.json and OUT/predictions.png. OUT is WORKDIR/eval_SPLIT unless given.
"""

import pathlib

from absl import flags

from pinet_jax import checkpoints, eval_loop, evaluation, program
from pinet_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of train.py; its newest checkpoint.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A checkpoint, instead of --workdir.")
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
    metrics = eval_loop.evaluate(config, variables, out)
    print(evaluation.table(metrics))
    print(f"results and pictures: {out}")


if __name__ == "__main__":
    program.run(main)
