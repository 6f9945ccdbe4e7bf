"""Whether the host memory of a training grows.

    python -m tests.memory [STEPS]

Trains the tiny model, with checkpoints and logs, and prints the resident memory of the
process along the way, and its peak in the first and in the second half. Exit code 1 if the
peak of the second half is more than 5 % above that of the first.
"""

import os
import sys
import tempfile

from tests import runs

os.environ["JAX_PLATFORMS"] = "cpu"

from pinet_jax.training import step_metrics
from tests import tiny
from tests.resident import resident

WARM_UP = 50  # steps until caches and buffers are filled
ALLOWED = 1.05


def resident_of_steps(steps: int) -> list[int]:
    """Bytes of resident memory after each step."""
    found = []
    add = step_metrics.StepMetrics.add

    def noting(self, *arguments):
        add(self, *arguments)
        found.append(resident())

    step_metrics.StepMetrics.add = noting
    settings = {"train.epochs": steps / 4, "train.checkpoint_every": 25, "train.log_every": 10}
    with tempfile.TemporaryDirectory() as workdir:
        runs.train(tiny.config(**settings), workdir)
    return found


def main() -> int:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    found = resident_of_steps(steps)
    for step in range(WARM_UP, steps + 1, max(1, (steps - WARM_UP) // 9)):
        print(f"step {step:4}  {found[step - 1] / 2**20:7.1f} MiB")
    middle = (WARM_UP + steps) // 2
    first, second = max(found[WARM_UP:middle]), max(found[middle:])
    print(f"peak of steps {WARM_UP} to {middle}: {first / 2**20:.1f} MiB")
    print(f"peak of steps {middle} to {steps}: {second / 2**20:.1f} MiB")
    return 0 if second <= ALLOWED * first else 1


if __name__ == "__main__":
    sys.exit(main())
