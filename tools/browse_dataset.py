"""Draws training samples exactly as the network sees them, with everything it is taught.

    tools/browse_dataset.py --config configs/NAME.py --out FILE.png
        [--split train --count 8 --seed 0] [--config.a.b=c ...]

A row is a sample after augmentation: the input with its labelled people (hidden joints hollow,
regions without loss red), the keypoint heatmaps, the part heatmaps with the part centres, and
for each part the pixels that regress a pose, with lines to where their offsets point. They are
the first --count samples of a training with that seed; another --seed gives others.
"""

import pathlib
import sys
from collections.abc import Mapping

import numpy as np
from absl import flags
from ml_collections import ConfigDict

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from pinet_jax import files, program, skeletons, target_pictures, visualize
from pinet_jax.errors import UserError

OUT = flags.DEFINE_string("out", None, "PNG file to write.")
SPLIT = flags.DEFINE_string("split", None, "Split of the dataset; config.dataset.train_split.")
COUNT = flags.DEFINE_integer("count", 8, "Number of samples.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", None, "Draws order and augmentation; config.seed.")
STREAM = "synthcrowd_stream"


def main(arguments: list[str]) -> None:
    """Runs the program."""
    if len(arguments) > 1 or not OUT.value:
        raise UserError("Give --out=FILE.png and no other file: see browse_dataset.py --help.")
    out = pathlib.Path(OUT.value).expanduser()
    config = wanted(program.config_from_flags())
    rows = target_pictures.samples(first_batch(config), config)
    grid = target_pictures.picture(rows, skeletons.of(config), config.model.partition)
    files.make_folder(out.parent)
    visualize.save_png(grid, out)
    print(f"wrote {out}: {len(rows)} samples of {config.dataset.name}")


def wanted(config: ConfigDict) -> ConfigDict:
    """The config with the split, the seed and the number of samples that the flags say."""
    config = config.copy_and_resolve_references()
    config.train.batch_size = COUNT.value
    if SEED.value is not None:
        config.seed = SEED.value
    if SPLIT.value is not None:
        if config.dataset.name == STREAM:
            raise UserError(f"--split={SPLIT.value}: the stream has no splits; leave it out.")
        config.dataset.train_split = SPLIT.value
    return config


def first_batch(config: ConfigDict) -> Mapping[str, np.ndarray]:
    """The batch that a training would begin with."""
    if config.dataset.name == STREAM:
        from input_pipeline.synthcrowd import stream

        return next(stream.batches(config, config.train.batch_size, 0))
    from input_pipeline import train_data

    return next(train_data.train_batches(config, 0))


if __name__ == "__main__":
    program.run(main)
