"""Runs the paper's experiments on crowds whose occlusion is known, and says which claims held.

    tools/study.py --config configs/study.py --out DIR [--rows=NAME,...] [--seeds=N]
        [--budget=MINUTES] [--config.a.b=c ...]

Trains every row's network with several seeds, scores its checkpoints on the same held-out
scenes with pose fusion and without, and after every run prints the table, with the paper's
figures beside ours, and the verdicts. DIR gets study.json, report.html and the pictures.
Started again on the same DIR it goes on: finished runs are not repeated. Exit code 2 and one
sentence for a mistake that can be mended; 143 at the end of the budget.
"""

import pathlib
import sys

from absl import flags

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from input_pipeline.source import Source
from pinet_jax import program
from pinet_jax.config import with_fields
from pinet_jax.errors import UserError
from pinet_jax.studies.study import run_study
from pinet_jax.training.stopping import Stopped

OUT = flags.DEFINE_string("out", None, "Folder of the study.")
ROWS = flags.DEFINE_list(
    "rows", [], "Names of pinet_jax/studies/rows.py; all of them unless given."
)
SEEDS = flags.DEFINE_integer("seeds", None, "Seeds a row; config.study.seeds unless given.", 1)
BUDGET = flags.DEFINE_float("budget", None, "Minutes after which it stops.", 0.0)


def main(arguments: list[str]) -> int:
    """Runs the program; its exit code."""
    if len(arguments) > 1:
        raise UserError(f"'{arguments[1]}' is no flag: see study.py --help.")
    if not OUT.value:
        raise UserError("--out is missing: name a folder for the study.")
    config = program.config_from_flags()
    if "study" not in config:
        raise UserError("--config is of no study: give configs/study.py or one made like it.")
    if SEEDS.value:
        config = with_fields(config, {"study.seeds": SEEDS.value})
    try:
        run_study(config, OUT.value, Source, ROWS.value, BUDGET.value)
    except Stopped as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        return stopped.exit_code
    return 0


if __name__ == "__main__":
    program.run(main)
