"""Mistakes end with one sentence, exit code 2 and nothing half written."""

import json
import math

import numpy as np
import pytest

from input_pipeline import train_data
from input_pipeline.storage import downloads, splits
from pinet_jax.config import check_same_model, save_config
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import network
from pinet_jax.weights import checkpoints
from tests import devices, programs, runs, tiny
from tests.input_pipeline import fake_coco

CONFIG = f"--config={tiny.PATH}"
UNREADABLE = "000000001001.jpg"


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with devices.use(1):
        yield


def coco_config(folder, **overrides):
    """Of the download in folder/coco."""
    return tiny.config(
        **{
            "dataset.name": "coco",
            "dataset.data_dir": str(folder / "coco"),
            "dataset.prepared_dir": str(folder / "prepared"),
            **overrides,
        }
    )


def refused(function, *arguments):
    """The sentence of the UserError that the call ends with."""
    with pytest.raises(UserError) as error:
        function(*arguments)
    message = str(error.value)
    assert message.endswith((".", "?")) and "\n" not in message
    return message


def refused_training(config, workdir):
    """The same of a training, which leaves no workdir behind."""
    message = refused(runs.train, config, str(workdir))
    assert not workdir.exists()
    return message


# ---- Data


def test_a_missing_data_folder(tmp_path):
    message = refused_training(coco_config(tmp_path), tmp_path / "run")
    assert f"{tmp_path}/coco is not a folder" in message and "config.dataset.data_dir" in message


def test_a_folder_without_annotations_or_images(tmp_path):
    fake_coco.write_fake_coco(tmp_path / "coco", splits=("train",))
    variables = {"params": {"ppg": {}}, "batch_stats": {}}  # never used
    message = refused(
        runs.evaluate,
        coco_config(tmp_path),
        variables,
        tmp_path / "out",
    )
    assert "person_keypoints_val2017.json is missing" in message
    assert not list((tmp_path / "out").glob("*"))
    (tmp_path / "coco/train2017").rename(tmp_path / "elsewhere")
    message = refused_training(coco_config(tmp_path), tmp_path / "run")
    assert "train2017 is missing" in message


@pytest.mark.parametrize(
    ("break_json", "words"),
    [
        (lambda content: content["annotations"][1].pop("keypoints"), "without 'keypoints'"),
        (lambda content: content["annotations"][0]["keypoints"].pop(), "50 numbers"),
        (lambda content: content["annotations"][1].update(category_id=3), "is of category 3"),
        (lambda content: content["annotations"][2].update(image_id=7), "is of image 7, which is"),
        (lambda content: content["annotations"][1].update(id=1), "annotation 1 is listed twice"),
        (lambda content: content["annotations"][1].update(bbox=[1, 2, 0, 3]), "box of zero size"),
        (lambda content: content["annotations"][1].update(area=math.nan), "finite numbers"),
        (lambda content: content.pop("annotations"), "no 'images' and 'annotations'"),
        (None, "is not a complete JSON file"),
    ],
)
def test_broken_annotations(tmp_path, break_json, words):
    fake_coco.write_fake_coco(tmp_path / "coco")
    path = tmp_path / "coco/annotations/person_keypoints_train2017.json"
    text = path.read_text()
    if break_json:
        content = json.loads(text)
        break_json(content)
        path.write_text(json.dumps(content))
    else:
        path.write_text(text[: len(text) // 2])
    message = refused_training(coco_config(tmp_path), tmp_path / "run")
    assert str(path) in message and words in message


def test_an_unreadable_image_stops_or_is_skipped(tmp_path):
    fake_coco.write_fake_coco(tmp_path / "coco", sizes=((60, 60),))
    path = tmp_path / "coco/train2017" / UNREADABLE
    path.write_bytes(path.read_bytes()[:200])
    config = coco_config(tmp_path)
    message = refused_training(config, tmp_path / "run")
    assert UNREADABLE in message and "--config.dataset.skip_invalid=True" in message

    skipping = coco_config(tmp_path, **{"dataset.skip_invalid": True})
    assert train_data.examples_per_epoch(skipping) == 2  # of 4: one unreadable, one empty
    assert len(splits.open_split(skipping, "train")) == 3
    refused_training(config, tmp_path / "run")  # skipping once makes it nobody's default


def test_a_prepared_folder_without_the_split_that_is_asked_for(tmp_path):
    fake_coco.write_fake_coco(tmp_path / "coco", splits=("train",))
    downloads.prepare_into(coco_config(tmp_path), tmp_path / "out", "train")
    config = coco_config(tmp_path, **{"dataset.data_dir": str(tmp_path / "out")})
    assert train_data.examples_per_epoch(config) == 3
    message = refused(runs.evaluate, config, {}, tmp_path / "eval")
    assert "holds the prepared splits train and not 'val'" in message and "--splits val" in message
    assert not (tmp_path / "eval").exists()


# ---- Checkpoints of another config


def save_checkpoint(workdir, config):
    """One of random weights."""
    save_config(workdir, config)
    with checkpoints.Checkpoints(workdir, keep=1) as saved:
        saved.save({"step": np.array(1), **tiny.random_variables(network.build(config))})


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_resuming_another_model_is_refused_and_changes_nothing(tmp_path):
    save_checkpoint(tmp_path, tiny.config())
    before = files_of(tmp_path)
    other = tiny.config(**{"model.graph_layers": 1})
    message = refused(runs.train, other, str(tmp_path))
    assert "is of another config" in message and "refiner/layer1_1" in message
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.width": 16}, "config.model.width is 8 there and 16 here"),
        ({"model.graph_layers": 3}, "config.model.graph_layers is 2 there and 3 here"),
        ({"dataset.skeleton": "crowdpose"}, "config.dataset.skeleton is 'coco' there"),
    ],
)
def test_evaluating_another_model_is_refused(changes, words):
    message = refused(check_same_model, tiny.config(**changes), tiny.config())
    assert words in message
    check_same_model(tiny.config(**{"model.conv_init": "released"}), tiny.config())


# ---- The programs themselves


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workdir")
    save_checkpoint(folder, tiny.config())
    return folder


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        ("train.py", (CONFIG,), "--workdir is missing"),
        (
            "train.py",
            (CONFIG, "--workdir={out}", "--config.model.widht=8"),
            "'widht': did you mean",
        ),
        ("train.py", (CONFIG, "--workdir={file}/run"), "Cannot write to the folder"),
        (
            "train.py",
            (CONFIG, "--workdir={out}", "--config.dataset.name=coco"),
            "config.dataset.data_dir is empty",
        ),
        ("eval.py", (CONFIG,), "as --workdir or as --checkpoint"),
        ("eval.py", (CONFIG, "--workdir={out}"), "No checkpoint in"),
        (
            "eval.py",
            (CONFIG, "--checkpoint={workdir}", "--out={out}", "--config.model.width=16"),
            "config.model.width is 8 there and 16 here",
        ),
    ],
)
def test_programs_end_with_one_sentence_and_code_2(program, arguments, words, workdir, tmp_path):
    places = {"out": tmp_path / "out", "file": tmp_path / "file", "workdir": workdir}
    places["file"].touch()
    done = programs.run(program, *(argument.format(**places) for argument in arguments))
    assert done.returncode == 2, done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: ") and words in last
    assert "Traceback" not in done.stderr and not done.stdout
    assert not places["out"].exists()
