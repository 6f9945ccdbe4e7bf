"""Draws training samples exactly as the network sees them, with everything it is taught.

    tools/browse_dataset.py --config configs/NAME.py --out FILE.png
        [--split train --count 8 --seed 0] [--config.a.b=c ...]

A row is a sample after augmentation: the input with its labelled people (hidden joints hollow,
regions without loss red), the keypoint heatmaps, the part heatmaps with the part centres, and
for each part the pixels that regress a pose, with lines to where their offsets point (of CID:
the heatmaps of one person each). They are
the first --count samples of a training with that seed; another --seed gives others.
"""

import pathlib
import sys

from absl import flags
from ml_collections import ConfigDict

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from input_pipeline.source import Source
from pinet_jax import methods, program, skeletons, visualize
from pinet_jax.errors import UserError
from pinet_jax.runtime import files
from pinet_jax.visualize import targets

OUT = flags.DEFINE_string("out", None, "PNG file to write.")
SPLIT = flags.DEFINE_string("split", None, "Split of the dataset; config.dataset.train_split.")
COUNT = flags.DEFINE_integer("count", 8, "Number of samples.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", None, "Draws order and augmentation; config.seed.")


def main(arguments: list[str]) -> None:
    """Runs the program."""
    if len(arguments) > 1 or not OUT.value:
        raise UserError("Give --out=FILE.png and no other file: see browse_dataset.py --help.")
    out = pathlib.Path(OUT.value).expanduser()
    config = program.config_from_flags()
    _apply_flags(config)
    rows = targets.first_samples(config, COUNT.value, Source)
    grid = targets.picture(rows, skeletons.of(config), methods.of(config).parts(config))
    files.make_folder(out.parent)
    visualize.save_png(grid, out)
    print(f"wrote {out}: {len(rows)} samples of {config.dataset.name}")


def _apply_flags(config: ConfigDict) -> None:
    """Sets what --seed and --split say."""
    if SEED.value is not None:
        config.seed = SEED.value
    if SPLIT.value is not None:
        if config.dataset.name == "synthcrowd_stream":
            raise UserError(f"--split={SPLIT.value}: the stream has no splits; leave it out.")
        config.dataset.train_split = SPLIT.value


if __name__ == "__main__":
    program.run(main)
