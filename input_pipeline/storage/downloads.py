"""Datasets of COCO-format annotations: prepared on first use, or beforehand.

config.dataset.data_dir is the download, which is only read and prepared into a folder
of config.dataset.prepared_dir; or it is what `input_pipeline.prepare` made of it.
"""

import hashlib
import importlib
import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from input_pipeline.datasets import layout
from input_pipeline.storage import reader
from input_pipeline.storage.builder import FORMAT_VERSION, Keypoints, source_facts
from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.runtime import files

NAMES = ("coco", "ochuman", "crowdpose", "custom")
SUMMARY = "summary.json"  # in a prepared folder

Summary = dict[str, Any]


def module(name: str) -> layout.Dataset:
    """The module of the dataset called `name`."""
    return importlib.import_module(f"input_pipeline.datasets.{name}")


def open_split(config: ConfigDict, split: str) -> reader.Split:
    """The examples of a split, or of several joined by "+", prepared on first use.

    Raises:
        UserError: says what is wrong with the data, or which splits there are.
    """
    opened = []
    for part in split_names(config, split):
        builder = _builder(config, part)
        opened.append(reader.PreparedSplit(builder, builder.split_name))
    return opened[0] if len(opened) == 1 else reader.JoinedSplit(opened)


def annotations_path(config: ConfigDict, split: str) -> pathlib.Path:
    """The ground truth of a split's examples, prepared on first use.

    It is the download's without what was left out, with the sizes of the pixels, and with
    `iscrowd` and `num_keypoints` where they are missing.

    Raises:
        UserError: bad data, a joined split, or one whose annotations are not published.
    """
    names = split_names(config, split)
    if len(names) > 1:
        raise UserError(
            f"Split '{split}' joins {len(names)} files of annotations: score one at a time, "
            f"as --config.dataset.eval_split={names[0]}."
        )
    if not is_scored(config, split):
        raise UserError(
            f"The annotations of {config.dataset.name}'s split '{split}' are not published: "
            "its results are scored on the dataset's own server."
        )
    return _builder(config, names[0]).annotations_path


def is_scored(config: ConfigDict, split: str) -> bool:
    """Whether a split has annotations to score against; COCO keeps those of test-dev."""
    dataset = module(config.dataset.name)
    return all(dataset.files(config, part).scored for part in split_names(config, split))


def split_names(config: ConfigDict, split: str) -> list[str]:
    """The splits that "train+val", or an alias of it as "trainval", means."""
    dataset = module(config.dataset.name)
    names = dataset.ALIASES.get(split, split).split("+")
    for name in names:
        if name not in (dataset.SPLITS or names) or not name:
            known = ", ".join((*dataset.SPLITS, *dataset.ALIASES))
            raise UserError(
                f"{config.dataset.name} has no split '{name}': use one of {known}, or join "
                "some with '+'."
            )
    if len(set(names)) < len(names):
        raise UserError(f"Split '{split}' names a split twice: join different ones.")
    return names


def prepare_into(config: ConfigDict, folder: pathlib.Path, split: str) -> tuple[Summary, bool]:
    """Prepares one split into folder/split, which then needs the download no more.

    Args:
        config: config.dataset.data_dir is the download.
        folder: of all splits of the dataset; its summary.json gets this one's.
        split: one, not joined.

    Returns:
        The split's summary, and whether it was there already.

    Raises:
        UserError: bad data, or the folder holds what was made from other data.
    """
    raw = layout.data_dir(config)
    if is_prepared(raw):
        raise UserError(f"{raw} is a prepared folder itself: give the download as --raw.")
    _check_outside(folder, raw, "--data_dir")
    found = layout.find(config, module(config.dataset.name).files(config, split))
    _check_same_dataset(config, folder)
    builder = Keypoints(config=config, split=split, found=found, data_dir=str(folder / split))
    was_there = builder.summary_path.is_file()
    if was_there:
        _check_same_source(config, found, builder)
    reader.prepare(builder)
    _ = reader.PreparedSplit(builder, builder.split_name).index  # kept there for readers
    summary = _read_json(builder.summary_path)
    _add_to_summary(config, folder, split, summary)
    return summary, was_there


def is_prepared(folder: pathlib.Path) -> bool:
    """Whether `prepare_into` has filled the folder."""
    try:
        return "splits" in json.loads((folder / SUMMARY).read_bytes())
    except (OSError, ValueError):
        return False


def _builder(config: ConfigDict, split: str) -> Keypoints:
    """Of a split that is prepared, if need be just now."""
    folder = layout.data_dir(config)
    if is_prepared(folder):
        return _prepared_builder(config, folder, split)
    found = layout.find(config, module(config.dataset.name).files(config, split))
    target = automatic_dir(config, split, found)
    builder = Keypoints(config=config, split=split, found=found, data_dir=str(target))
    reader.prepare(builder)
    return builder


def automatic_dir(config: ConfigDict, split: str, found: layout.Found) -> pathlib.Path:
    """Where a split of a download is prepared: another folder whenever that changes.

    A preparation that may leave something out has a folder of its own, so that one that
    must not never finds it.
    """
    path = found.annotations.resolve()
    stat = path.stat()
    skeleton = (config.dataset.skeleton, skeletons.of(config).num_keypoints)
    facts = (str(path), stat.st_size, stat.st_mtime_ns, str(found.images.resolve()))
    facts += (*skeleton, config.dataset.skip_invalid, FORMAT_VERSION)
    fingerprint = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
    root = pathlib.Path(config.dataset.prepared_dir).expanduser()
    _check_outside(root, layout.data_dir(config), "--config.dataset.prepared_dir")
    return root.resolve() / f"{config.dataset.name}-{split}-{fingerprint}"


def _prepared_builder(config: ConfigDict, folder: pathlib.Path, split: str) -> Keypoints:
    """Of a split in a prepared folder."""
    _check_same_dataset(config, folder)
    splits = _read_json(folder / SUMMARY)["splits"]
    if split not in splits:
        raise UserError(
            f"{folder} holds the prepared splits {', '.join(splits)} and not '{split}': prepare "
            f"it with --splits {split}, or set config.dataset.train_split or eval_split."
        )
    made, wanted = splits[split]["source"], skeletons.of(config).num_keypoints
    if made["num_keypoints"] != wanted:
        raise UserError(
            f"{folder} is prepared for {made['num_keypoints']} keypoints, and the skeleton "
            f"'{config.dataset.skeleton}' has {wanted}: set --config.dataset.skeleton."
        )
    builder = Keypoints(config=config, split=split, found=None, data_dir=str(folder / split))
    if not builder.summary_path.is_file():
        raise UserError(
            f"{folder / split} is gone or of another version of this program: delete what is "
            "there and prepare it again."
        )
    return builder


def _check_same_dataset(config: ConfigDict, folder: pathlib.Path) -> None:
    if is_prepared(folder):
        name = _read_json(folder / SUMMARY)["dataset"]
        if name != config.dataset.name:
            raise UserError(
                f"{folder} holds the prepared dataset '{name}' and not '{config.dataset.name}': "
                f"name another folder, or set --config.dataset.name={name}."
            )


def _check_same_source(config: ConfigDict, found: layout.Found, builder: Keypoints) -> None:
    """UserError unless the prepared files were made from these."""
    made, now = _read_json(builder.summary_path)["source"], source_facts(config, found)
    other = [name for name in now if made.get(name) != now[name]]
    if other:
        folder = pathlib.Path(builder.data_dir).parents[1]
        raise UserError(
            f"{folder} was prepared from other data than {found.annotations} is now (different: "
            f"{', '.join(other)}): delete it or name another --data_dir."
        )


def _check_outside(folder: pathlib.Path, download: pathlib.Path, field: str) -> None:
    if folder.expanduser().resolve().is_relative_to(download.resolve()):
        raise UserError(
            f"{field} {folder} lies inside the download, which is only read: name a folder "
            "outside it."
        )


def _add_to_summary(config: ConfigDict, folder: pathlib.Path, split: str, summary: Summary) -> None:
    with reader.locked(folder):
        others = _read_json(folder / SUMMARY)["splits"] if is_prepared(folder) else {}
        whole = {"dataset": config.dataset.name, "splits": {**others, split: summary}}
        files.write_text(folder / SUMMARY, json.dumps(whole, indent=2) + "\n")


def _read_json(path: pathlib.Path) -> Summary:
    return json.loads(path.read_bytes())
