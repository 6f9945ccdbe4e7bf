"""Prepares a dataset for training and evaluation.

    python -m input_pipeline.prepare NAME --raw DIR --data_dir OUT [--splits a,b] [--skip_invalid]

NAME is coco, ochuman, crowdpose or custom; custom needs --config, which says where its
files are. DIR, the download, is only read. OUT then needs it no more: train and evaluate
with --config.dataset.data_dir=OUT. Exit code 2 and one sentence for a mistake that can
be mended.
"""

import pathlib

from absl import flags
from ml_collections import ConfigDict

from input_pipeline.storage import downloads, summary
from pinet_jax import program
from pinet_jax.config import load_config
from pinet_jax.errors import UserError

RAW = flags.DEFINE_string("raw", None, "Folder of the download; only read.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder for the prepared data.")
SPLITS = flags.DEFINE_list("splits", None, "Splits to prepare; all that have annotations.")
SKIP_INVALID = flags.DEFINE_bool(
    "skip_invalid", False, "Count and leave out invalid images and annotations."
)


def main(arguments: list[str]) -> None:
    """Runs the program."""
    config = _config(arguments[1:])
    if not DATA_DIR.value:
        raise UserError("--data_dir is missing: name a folder for the prepared data.")
    out = pathlib.Path(DATA_DIR.value).expanduser().absolute()
    summaries = {}
    for split in _splits(config):
        summaries[split], was_there = downloads.prepare_into(config, out, split)
        if was_there:
            print(f"{split} is prepared already.", flush=True)
    dataset = downloads.module(config.dataset.name)
    print(f"{config.dataset.name} in {out}", summary.table(summaries), sep="\n")
    print(summary.published(summaries, dataset.PUBLISHED), end="\n" if dataset.PUBLISHED else "")


def _config(names: list[str]) -> ConfigDict:
    """The dataset's config with what the flags say."""
    if len(names) != 1 or names[0] not in downloads.NAMES:
        known = ", ".join(downloads.NAMES)
        raise UserError(f"Name one dataset of {known}: {' '.join(names) or 'none'} is not.")
    if not RAW.value:
        raise UserError("--raw is missing: name the folder of the download.")
    if flags.FLAGS["config"].value is not None:
        config = program.config_from_flags()
    elif names[0] == "custom":
        raise UserError("custom needs --config: the config says where its files are.")
    else:
        config = load_config(names[0])
    config.dataset.name = names[0]
    config.dataset.data_dir = RAW.value
    config.dataset.skip_invalid |= SKIP_INVALID.value
    return config


def _splits(config: ConfigDict) -> list[str]:
    """The splits that are named, those joined taken apart; or the usual ones."""
    usual = downloads.module(config.dataset.name).PREPARED
    wanted = SPLITS.value or usual or (config.dataset.train_split, config.dataset.eval_split)
    names = [name for split in wanted for name in downloads.split_names(config, split)]
    return list(dict.fromkeys(names))


if __name__ == "__main__":
    program.run(main)
