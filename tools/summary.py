"""Prints the parameters and operations of the network that a config describes.

    tools/summary.py --config configs/NAME.py [--size=HEIGHTxWIDTH] [--config.a.b=c ...]

For one view of one image of --size pixels (config.eval.input_size squared unless given). What
is done for each person (PINet's PR, CID's GFD) counts for config.eval.max_peaks proposals a part,
the most there can be. docs/tools.md says what "GFLOPs" of papers and of XLA are. Only shapes are
traced: it takes seconds and little memory whatever the size.
"""

import pathlib
import re
import sys

from absl import flags
from ml_collections import ConfigDict

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from pinet_jax import methods, program
from pinet_jax.errors import UserError
from pinet_jax.methods import cost

SIZE = flags.DEFINE_string(
    "size", None, "Of the network input: 512, or HEIGHTxWIDTH as in 512x640; multiples of 32."
)


def main(arguments: list[str]) -> None:
    """Runs the program."""
    if len(arguments) > 1:
        raise UserError(f"'{arguments[1]}' is no flag: see summary.py --help.")
    config = program.config_from_flags()
    height, width = network_size(SIZE.value, config)
    print(describe(config, height, width))


def network_size(text: str | None, config: ConfigDict) -> tuple[int, int]:
    """Height and width in pixels that --size means; UserError if it means none."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text or str(config.eval.input_size))
    if not match:
        raise UserError(f"--size={text} is no size: give one as in 512 or 512x640.")
    return int(match[1]), int(match[2] or match[1])


def describe(config: ConfigDict, height: int, width: int) -> str:
    """The table and, above it, what it is of."""
    method = methods.of(config)
    size = config, height, width
    what = (
        f"{config.model.method} on HRNet-W{config.model.width}, {config.dataset.skeleton} "
        f"keypoints; one view of {height} x {width} pixels; {method.counted_for(*size)}"
    )
    return f"{what}\n\n{cost.table(method.network_cost(*size))}"


if __name__ == "__main__":
    program.run(main)
