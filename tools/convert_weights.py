"""Converts PyTorch weights to a checkpoint, and a checkpoint to PyTorch weights.

    tools/convert_weights.py FILE --config configs/NAME.py --out DIR [--config.a.b=c ...]
    tools/convert_weights.py CHECKPOINT --to_torch --out FILE.safetensors

FILE is a released PINet, or an HRNet trained on ImageNet as its authors or timm publish it:
.safetensors, or .pth, .pth.tar, .pt, .bin (these need PyTorch). DIR serves eval.py and
predict.py as --checkpoint=DIR and train.py as --config.train.init_from=DIR, the only use of a
backbone alone. Exit code 2 and one sentence for weights that do not fit; nothing is written.
"""

import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from pinet_jax.weights import reading

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from pinet_jax import program
from pinet_jax.errors import UserError
from pinet_jax.weights import checkpoints, convert, torch_files

OUT = flags.DEFINE_string("out", None, "The checkpoint's folder; with --to_torch, a file.")
TO_TORCH = flags.DEFINE_bool("to_torch", False, "From a checkpoint to a PyTorch file.")


def main(arguments: list[str]) -> None:
    """Runs the program."""
    if len(arguments) != 2 or not OUT.value:
        raise UserError("Give one file or checkpoint, and --out: see convert_weights.py --help.")
    source, out = arguments[1], OUT.value
    print(
        to_torch(source, out)
        if TO_TORCH.value
        else from_torch(source, program.config_from_flags(), out)
    )


def from_torch(source: str | os.PathLike, config: ConfigDict, out: str | os.PathLike) -> str:
    """Writes the checkpoint folder `out`; returns what was done, in a sentence.

    Raises:
        UserError: `source` cannot be read or does not fit the config, or `out` cannot be
            written; nothing is written then.
    """
    state_dict = torch_files.read_state_dict(source)
    variables = convert.from_torch(state_dict, config)
    checkpoints.save_variables(out, config, variables)
    return _summary(out, variables)


def to_torch(source: str | os.PathLike, out: str | os.PathLike) -> str:
    """Writes the weights file `out`; returns what was done, in a sentence.

    Raises:
        UserError: `source` is no checkpoint, or `out` cannot be written.
    """
    _, variables = reading.load_variables(source)
    torch_files.write_state_dict(out, convert.to_torch(variables))
    return _summary(out, variables)


def _summary(out: str | os.PathLike, variables: Mapping[str, Any]) -> str:
    what = "a backbone" if set(variables["params"]) == {"backbone"} else "a whole model"
    count = sum(np.size(x) for x in jax.tree.leaves(variables["params"]))
    return f"wrote {out}: {what} of {count:,} parameters"


if __name__ == "__main__":
    program.run(main)
