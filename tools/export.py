"""Writes a trained model as files that run without this library.

    tools/export.py --checkpoint WORKDIR --out FILE.stablehlo [--size HxW] [--config.a.b=c ...]
    tools/export.py --checkpoint WORKDIR --out DIR --onnx [--size HxW] [--config.a.b=c ...]

FILE holds the whole prediction, weights inside, for CPUs, NVIDIA GPUs and TPUs; JAX loads it
without this library. DIR holds the network in ONNX and the rest in NumPy. Either takes images of
one network size (config.eval.input_size squared unless --size is given) and finds what predict.py
finds, with the scales, flip test and fusion of the checkpoint's config or as overridden, e.g. by
--config.eval.flip=False. docs/export.md shows how to load and call both.
"""

import pathlib
import sys

from absl import flags

from pinet_jax.weights import reading

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from pinet_jax import program
from pinet_jax.errors import UserError
from pinet_jax.export import onnx_models, stablehlo

CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Workdir of train.py, one checkpoint of it, or a file of released weights."
)
OUT = flags.DEFINE_string("out", None, "File to write; with --onnx, a new folder.")
ONNX = flags.DEFINE_bool("onnx", False, "ONNX models and NumPy instead of StableHLO.")
SIZE = flags.DEFINE_string("size", None, "HEIGHTxWIDTH of the network's input at scale 1.")
BATCH = flags.DEFINE_integer(
    "batch", None, "Images a call; any number unless given, with --onnx 1.", lower_bound=1
)


def main(arguments: list[str]) -> None:
    """Runs the program."""
    for flag in (CHECKPOINT, OUT):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing: see export.py --help.")
    if ONNX.value:
        stablehlo.check_new_folder(OUT.value)
    config, variables = reading.load_variables(CHECKPOINT.value)
    if stray := program.override(config, arguments)[1:]:
        raise UserError(f"'{stray[0]}': export.py takes flags only, see export.py --help.")
    side = config.eval.input_size
    size = stablehlo.parse_size(SIZE.value) if SIZE.value else (side, side)
    if ONNX.value:
        count = BATCH.value or 1
        contents = onnx_models.folder_contents(config, variables, size, count)
        total = sum(map(len, contents.values()))
        stablehlo.write_folder(OUT.value, contents)
    else:
        count = BATCH.value or "any"
        content = stablehlo.stablehlo(config, variables, size, BATCH.value)
        total = len(content)
        stablehlo.write_file(OUT.value, content)
    print(f"wrote {OUT.value}: {total / 1e6:.1f} MB, {size[0]}x{size[1]} pixels, batch {count}")


if __name__ == "__main__":
    program.run(main, known_flags_only=True)
