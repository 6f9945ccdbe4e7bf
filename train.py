"""Trains a PINet.

    train.py --config configs/NAME.py --workdir DIR [--config.a.b=c ...]

Started again on the same workdir it goes on from the newest checkpoint. Exit code 2
and one sentence for a mistake that can be mended; 143 after SIGTERM, or a cluster's
notice, and 130 after SIGINT, with the step finished and its checkpoint saved.
"""

import sys

from absl import flags

from input_pipeline.source import Source
from pinet_jax import program
from pinet_jax.errors import UserError
from pinet_jax.training import loop
from pinet_jax.training.stopping import Stopped

WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and pictures.")


def main(_: list[str]) -> int:
    """Runs the program; its exit code."""
    if not WORKDIR.value:
        raise UserError("--workdir is missing: name a folder for checkpoints and logs.")
    try:
        config = program.config_from_flags()
        loop.train(config, WORKDIR.value, Source(config))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.exit_code
    return 0


if __name__ == "__main__":
    program.run(main)
