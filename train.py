"""Trains a PINet.

    train.py --config configs/NAME.py --workdir DIR [--config.a.b=c ...]

Started again on the same workdir it goes on from the newest checkpoint. Exit code 2
and one sentence for a mistake that can be mended.
"""

from absl import flags

from pinet_jax import program, train_loop
from pinet_jax.errors import UserError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and pictures.")


def main(_: list[str]) -> None:
    """Runs the program."""
    if not WORKDIR.value:
        raise UserError("--workdir is missing: name a folder for checkpoints and logs.")
    train_loop.train(program.config_from_flags(), WORKDIR.value)


if __name__ == "__main__":
    program.run(main)
