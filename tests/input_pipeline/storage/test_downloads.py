"""Where datasets are, splits of splits, and folders prepared beforehand."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from input_pipeline import eval_data, train_data
from input_pipeline.datasets import layout
from input_pipeline.storage import builder as keypoints
from input_pipeline.storage import downloads, reader, splits
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from tests.input_pipeline import fake_coco
from tests.paths import ROOT

LAYOUTS = {
    "coco": {},
    "ochuman": {
        "splits": ("val", "test"),
        "annotation_file": "ochuman_coco_format_{split}_range_0.00_1.00.json",
        "image_folder": "images",
    },
    "crowdpose": {
        "splits": ("train", "val", "test"),
        "annotation_file": "json/crowdpose_{split}.json",
        "image_folder": "images",
        "num_keypoints": 14,
    },
    "custom": {
        "splits": ("spring", "autumn"),
        "annotation_file": "labels/{split}.json",
        "image_folder": "photos/{split}",
    },
}


def fake(folder: pathlib.Path, name: str, **fields):
    """A download of dataset `name` in folder/raw and its config."""
    fake_coco.write_fake_coco(folder / "raw", **LAYOUTS[name])
    overrides = {
        "dataset.name": name,
        "dataset.data_dir": str(folder / "raw"),
        "dataset.prepared_dir": str(folder / "cache"),
        "dataset.annotations": "labels/{split}.json",
        "dataset.images": "photos/{split}",
        **fields,
    }
    return load_config("base" if name == "custom" else name, overrides)


def at(config, folder: pathlib.Path, **fields):
    """The config for data in another folder."""
    copy = config.copy_and_resolve_references()
    copy.update_from_flattened_dict({"dataset.data_dir": str(folder), **fields})
    return copy


def examples_of(split: reader.Split) -> list[reader.Example]:
    return [split[number] for number in range(len(split))]


def same_examples(one: reader.Split, other: reader.Split) -> bool:
    pairs = zip(examples_of(one), examples_of(other), strict=True)
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for a, b in pairs for name in vars(a)
    )


# ---- Layouts and splits


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_read_and_only_read(tmp_path, name):
    config = fake(tmp_path, name)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "raw").rglob("*")}
    layout = LAYOUTS[name]
    for number, split in enumerate(layout.get("splits", ("train", "val"))):
        opened = splits.open_split(config, split)
        assert sorted(opened.index.image_id) == [1000 * (number + 1) + i for i in range(4)]
        assert opened[0].keypoints.shape[1:] == (layout.get("num_keypoints", 17), 3)
        truth = json.loads(splits.annotations_path(config, split).read_text())
        assert sorted(i["id"] for i in truth["images"]) == sorted(opened.index.image_id)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "raw").rglob("*")} == before


@pytest.mark.parametrize("place", ["annotations", "json", "."])
def test_annotations_are_found_where_people_keep_them(tmp_path, place):
    config = fake(tmp_path, "crowdpose")
    (tmp_path / "raw/json").rename(tmp_path / "files")
    (tmp_path / "raw" / place).mkdir(exist_ok=True)
    shutil.copytree(tmp_path / "files", tmp_path / "raw" / place, dirs_exist_ok=True)
    assert len(splits.open_split(config, "test")) == 4


def test_what_is_missing_is_named_with_the_places(tmp_path):
    config = fake(tmp_path, "crowdpose")
    shutil.rmtree(tmp_path / "raw/json")
    with pytest.raises(UserError, match=r"crowdpose_val.json is missing.*json/crowdpose_val.json"):
        splits.open_split(config, "val")


@pytest.mark.parametrize("split", ["trainval", "train+val"])
def test_trainval_is_both_splits(tmp_path, split):
    config = fake(tmp_path, "crowdpose")
    joined = splits.open_split(config, split)
    parts = [splits.open_split(config, name) for name in ("train", "val")]
    assert len(joined) == 8
    for number in range(8):
        example = parts[number // 4][number % 4]
        assert joined[number].image_id == example.image_id
        np.testing.assert_array_equal(joined[number].keypoints, example.keypoints)
    for name in vars(joined.index):
        both = np.concatenate([getattr(part.index, name) for part in parts])
        np.testing.assert_array_equal(getattr(joined.index, name), both)
    with pytest.raises(IndexError):
        joined[8]
    with pytest.raises(UserError, match=r"joins 2 files.*eval_split=train\.$"):
        splits.annotations_path(config, split)


def test_training_goes_over_both_splits_of_trainval(tmp_path):
    small = {"train.batch_size": 6, "train.input_size": 64, "dataset.max_persons": 2}
    config = fake(tmp_path, "crowdpose", **small)
    assert config.dataset.train_split == "trainval"
    assert train_data.examples_per_epoch(config) == 6
    batch = next(train_data.train_batches(config, 0))
    assert sorted(batch["image_id"]) == [1001, 1002, 1003, 2001, 2002, 2003]


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("tset", "crowdpose has no split 'tset': use one of train, val, test, trainval"),
        ("train+", "has no split ''"),
        ("val+val", "names a split twice"),
    ],
)
def test_unknown_splits_are_named(tmp_path, split, words):
    with pytest.raises(UserError, match=words.replace("+", r"\+")):
        splits.open_split(fake(tmp_path, "crowdpose"), split)


def test_dev_images_are_predicted_and_not_scored(tmp_path):
    """COCO publishes test-dev's list of images, and scores results on its server."""
    config = fake(tmp_path, "coco", **{"eval.input_size": 64, "eval.batch_size": 3})
    content = json.loads((tmp_path / "raw/annotations/person_keypoints_val2017.json").read_text())
    listed = {"info": {}, "images": content["images"], "categories": []}
    path = tmp_path / "raw/annotations/image_info_test-dev2017.json"
    path.write_text(json.dumps(listed))
    (tmp_path / "raw/val2017").rename(tmp_path / "raw/test2017")
    batches = list(eval_data.eval_batches(config, "test-dev"))
    ids = np.concatenate([batch.image_id[batch.valid] for batch in batches])
    assert sorted(ids) == [2000, 2001, 2002, 2003]
    assert not splits.is_scored(config, "test-dev")
    with pytest.raises(UserError, match=r"'test-dev' are not published.*server"):
        splits.annotations_path(config, "test-dev")


# ---- Prepared beforehand


@pytest.fixture
def config(tmp_path):
    return fake(tmp_path, "ochuman")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_a_prepared_folder_needs_the_download_no_more(tmp_path, config, out):
    automatic = splits.open_split(config, "test")
    truth = json.loads(splits.annotations_path(config, "test").read_text())
    for split in ("val", "test"):
        downloads.prepare_into(config, out, split)
    shutil.rmtree(tmp_path / "raw")
    names = {path.name for path in (out / "test/keypoints").glob("*/*")}
    assert {"annotations.json", "summary.json", "index_test.npz"} <= names
    moved = out.rename(tmp_path / "moved")
    config = at(config, moved, **{"dataset.prepared_dir": str(tmp_path / "unused")})
    assert same_examples(splits.open_split(config, "test"), automatic)
    path = splits.annotations_path(config, "test")
    assert path.is_relative_to(moved) and json.loads(path.read_text()) == truth
    assert len(splits.open_split(config, "val+test")) == 8
    assert not (tmp_path / "unused").exists()


def test_a_second_preparation_finds_the_first(config, out, monkeypatch):
    first, was_there = downloads.prepare_into(config, out, "val")
    assert not was_there
    monkeypatch.setattr(keypoints, "read_image", lambda _: pytest.fail("prepared twice"))
    second, was_there = downloads.prepare_into(config, out, "val")
    assert was_there and second == first
    assert json.loads((out / "summary.json").read_text()) == {
        "dataset": "ochuman",
        "splits": {"val": first},
    }


def change_annotations(raw: pathlib.Path) -> None:
    path = raw / "ochuman_coco_format_val_range_0.00_1.00.json"
    path.write_text(path.read_text() + " ")


def change_image(raw: pathlib.Path) -> None:
    with open(raw / "images/000000001001.jpg", "ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(
    ("change", "words"),
    [(change_annotations, "annotations_sha256"), (change_image, "image_sizes_sha256")],
)
def test_other_raw_data_is_noticed(tmp_path, config, out, change, words):
    downloads.prepare_into(config, out, "val")
    before = (out / "summary.json").read_text()
    change(tmp_path / "raw")
    with pytest.raises(UserError, match=rf"{out}/val was prepared from other data.*{words}"):
        downloads.prepare_into(config, out, "val")
    assert (out / "summary.json").read_text() == before
    shutil.rmtree(out / "val")
    _, was_there = downloads.prepare_into(config, out, "val")
    assert not was_there


def test_a_folder_of_an_old_format_is_noticed(config, out, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(keypoints, "FORMAT_VERSION", "1.1.0")
        patch.setattr(keypoints.Keypoints, "VERSION", keypoints.tfds.core.Version("1.1.0"))
        downloads.prepare_into(config, out, "val")
    with pytest.raises(UserError, match=rf"{out}/val is .*of another version.*prepare it again"):
        splits.open_split(at(config, out), "val")
    summary, was_there = downloads.prepare_into(config, out, "val")
    assert not was_there and summary["source"]["format"] == keypoints.FORMAT_VERSION
    assert len(splits.open_split(at(config, out), "val")) == 4


def test_leaving_out_invalid_ones_is_another_preparation(tmp_path, config, out):
    path = tmp_path / "raw/images/000000001001.jpg"
    path.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"000000001001.jpg is not a readable image"):
        downloads.prepare_into(config, out, "val")
    assert not (out / "summary.json").exists()
    skipping = at(config, tmp_path / "raw", **{"dataset.skip_invalid": True})
    summary, _ = downloads.prepare_into(skipping, out, "val")
    assert summary["skipped"] == {"unreadable image": 1}
    assert str(path) in summary["skipped_because"][0]
    with pytest.raises(UserError, match=r"other data.*skip_invalid"):
        downloads.prepare_into(config, out, "val")


@pytest.mark.parametrize(
    ("fields", "split", "words"),
    [
        ({}, "test", "holds the prepared splits val and not 'test'.*--splits test"),
        ({"dataset.name": "coco"}, "val", "'ochuman' and not 'coco'.*dataset.name=ochuman"),
        ({"dataset.skeleton": "crowdpose"}, "val", "17 keypoints.*'crowdpose' has 14"),
    ],
)
def test_a_prepared_folder_of_something_else_is_refused(config, out, fields, split, words):
    downloads.prepare_into(config, out, "val")
    with pytest.raises(UserError, match=words):
        splits.open_split(at(config, out, **fields), split)


def test_preparing_into_a_wrong_folder_is_refused(tmp_path, config, out):
    with pytest.raises(UserError, match=r"--data_dir .*inside the download"):
        downloads.prepare_into(config, tmp_path / "raw/out", "val")
    downloads.prepare_into(config, out, "val")
    with pytest.raises(UserError, match="is a prepared folder itself"):
        downloads.prepare_into(at(config, out), tmp_path / "again", "val")
    with pytest.raises(UserError, match="'ochuman' and not 'custom'"):
        downloads.prepare_into(fake(tmp_path / "other", "custom"), out, "spring")
    shutil.rmtree(out / "val")
    with pytest.raises(UserError, match=r"out/val is gone"):
        splits.open_split(at(config, out), "val")


KILLED = """
import os, pathlib, signal, sys
from input_pipeline.storage import builder, downloads
from pinet_jax.config import load_config
read = builder.read_image
def killed(path):
    if path.name == "000000001002.jpg":
        os.kill(os.getpid(), signal.SIGKILL)
    return read(path)
builder.read_image = killed
config = load_config("ochuman", {"dataset.data_dir": sys.argv[1]})
downloads.prepare_into(config, pathlib.Path(sys.argv[2]), "val")
"""


@pytest.mark.slow
def test_a_killed_preparation_starts_again(tmp_path, config, out):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, config.dataset.data_dir, str(out)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(out.rglob("incomplete.*"))  # it had begun
    assert not list(out.rglob("*.json"))
    with pytest.raises(UserError, match="is missing"):
        splits.open_split(at(config, out), "val")
    _, was_there = downloads.prepare_into(config, out, "val")
    assert not was_there and not list(out.rglob("incomplete.*"))
    prepared_before = splits.open_split(at(config, out), "val")
    assert same_examples(prepared_before, splits.open_split(config, "val"))


def test_only_one_prepares_at_a_time(config, out, monkeypatch):
    read, seen = keypoints.read_image, []

    def counted(path):
        seen.append(path.name)
        return read(path)

    monkeypatch.setattr(keypoints, "read_image", counted)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(downloads.prepare_into, config, out, "val") for _ in range(2)]
    (one, _), (other, _) = [task.result() for task in tasks]
    assert one == other
    assert len(seen) == len(set(seen)) == 4
    assert len(splits.open_split(at(config, out), "val")) == 4


def test_a_builder_made_before_another_process_was_done_can_read(config, out):
    found = layout.find(config, downloads.module("ochuman").files(config, "val"))
    builders = [
        keypoints.Keypoints(config=config, split="val", found=found, data_dir=str(out))
        for _ in range(2)
    ]
    for builder in builders:
        reader.prepare(builder)
        assert len(reader.PreparedSplit(builder, "val")) == 4
