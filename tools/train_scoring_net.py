"""Trains DEKR's scoring net for a trained model, or takes a released one.

    tools/train_scoring_net.py --checkpoint MODEL --out DIR [--config.a.b=c ...]
    tools/train_scoring_net.py --checkpoint MODEL --out DIR --released FILE

MODEL is a workdir, a checkpoint or a file of released weights. The net learns, from the people
that the model finds in config.dataset.train_split, how well they fit those who are there. DIR
is the model's checkpoint with the net in it and config.eval.scoring_net on: for predict.py,
export.py and, with that field on, eval.py. FILE is the net as DEKR's authors publish it, with
the entries l1, l2 and l3.
"""

import pathlib
import sys

from absl import flags

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from pinet_jax import program, skeletons
from pinet_jax.config import with_fields
from pinet_jax.errors import UserError
from pinet_jax.inference import pose_scoring
from pinet_jax.weights import checkpoints, reading, torch_files

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The model that people are found with.")
OUT = flags.DEFINE_string("out", None, "The new checkpoint's folder.")
RELEASED = flags.DEFINE_string("released", None, "A released scoring net, instead of training.")


def main(arguments: list[str]) -> None:
    """Runs the program."""
    for flag in (CHECKPOINT, OUT):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing: see train_scoring_net.py --help.")
    config, variables = reading.load_variables(CHECKPOINT.value)
    if stray := program.override(config, arguments)[1:]:
        raise UserError(f"'{stray[0]}': train_scoring_net.py takes flags only, see its --help.")
    checkpoints.check_new_checkpoint(OUT.value)
    if RELEASED.value:
        state_dict = torch_files.read_state_dict(RELEASED.value)
        net = pose_scoring.from_torch(state_dict, skeletons.of(config))
    else:
        from input_pipeline.source import Source
        from pinet_jax.training import scoring_net

        program.enable_compilation_cache(config)
        split = {"dataset.eval_split": config.dataset.train_split}
        net = scoring_net.train(config, variables, Source(with_fields(config, split)))
    config = with_fields(config, {"eval.scoring_net": True})
    checkpoints.save_variables(OUT.value, config, variables | {pose_scoring.SCORING: net})
    print(f"wrote {OUT.value}: the model with its scoring net")


if __name__ == "__main__":
    program.run(main, known_flags_only=True)
