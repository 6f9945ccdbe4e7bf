"""From data on disk to people in pictures: train, resume, evaluate, predict."""

import json

import cv2
import jax
import numpy as np
import pytest

from input_pipeline import train_data
from input_pipeline.storage import splits
from pinet_jax.config import read_config
from pinet_jax.evaluation import loop, scoring
from pinet_jax.inference.predictor import Predictor
from pinet_jax.training.metrics_log import read_metrics
from pinet_jax.weights import reading
from tests import devices, programs, runs, tiny
from tests.input_pipeline import fake_coco

SPLIT_SIZES = (60, 60)  # height and width: one network size, 64 x 64
PNG = b"\x89PNG"


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with devices.use(1):
        yield


def losses_of(workdir):
    return {record["step"]: record["loss"] for record in read_metrics(workdir / "metrics.jsonl")}


def assert_same_state(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


# ---- Training on the stream


def stream_config(**overrides):
    return tiny.config(**{"train.checkpoint_every": 2, **overrides})  # 4 steps an epoch


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir of four steps on the stream, and the state they ended in."""
    workdir = tmp_path_factory.mktemp("trained")
    return workdir, jax.device_get(runs.train(stream_config(), workdir))


def test_training_leaves_its_records(trained):
    workdir, state = trained
    assert state.step == 4
    records = read_metrics(workdir / "metrics.jsonl")
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    for record in records:
        assert record["loss"] > 0 and record["learning_rate"] == pytest.approx(1e-3)
        assert {"heatmap_loss", "offset_loss", "refinement_loss", "persons_dropped"} <= set(record)
    assert (workdir / "loss_curves.png").read_bytes().startswith(PNG)
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    assert read_config(workdir) == stream_config()
    saved = sorted(path.name for path in (workdir / "checkpoints").iterdir() if path.is_dir())
    assert saved == ["2", "4"]


def test_resuming_goes_on_to_the_last_bit(trained, tmp_path):
    """Two steps and two more are four; so the same seed also trains the same network twice."""
    workdir, state = trained
    runs.train(
        stream_config(**{"train.epochs": 0.5}),
        str(tmp_path),
    )
    assert losses_of(tmp_path) == {step: losses_of(workdir)[step] for step in (1, 2)}
    resumed = runs.train(stream_config(), tmp_path)
    assert losses_of(tmp_path) == losses_of(workdir)
    assert_same_state(resumed, state)


def test_a_finished_training_is_left_as_it_is(trained):
    workdir, state = trained
    again = runs.train(stream_config(), workdir)
    assert_same_state(again, state)
    assert list(losses_of(workdir)) == [1, 2, 3, 4]


# ---- Evaluation of the synthetic crowd on disk


@pytest.fixture(scope="module")
def crowd_config(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("crowd"))
    return tiny.config(**{"dataset.name": "synthcrowd", "dataset.data_dir": folder})


@pytest.fixture
def predictors(monkeypatch):
    """Those that the evaluation makes."""
    made = []

    class Spy(Predictor):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(loop, "Predictor", Spy)
    return made


def truth_of(config):
    return json.loads(splits.annotations_path(config, "val").read_text())


def check_evaluation(out, config, metrics):
    """The files say what evaluate returned; results name images of the split only."""
    assert metrics.items() <= json.loads((out / "metrics.json").read_text()).items()
    assert (out / "predictions.png").read_bytes().startswith(PNG)
    results = json.loads((out / "results.json").read_text())
    known = {image["id"] for image in truth_of(config)["images"]}
    for result in results:
        assert result["image_id"] in known and result["category_id"] == 1
        assert len(result["keypoints"]) == 51 and np.isfinite(result["keypoints"]).all()
        assert np.isfinite(result["score"])
    return results


def test_evaluation_covers_every_image_once(trained, crowd_config, predictors, tmp_path):
    _, variables = reading.load_variables(trained[0])
    seen = []
    coco_results = loop.coco_results

    def spy(image_id, people, most):
        seen.append((int(image_id), len(people.scores)))
        return coco_results(image_id, people, most)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "coco_results", spy)
        metrics = runs.evaluate(crowd_config, variables, tmp_path)

    results = check_evaluation(tmp_path, crowd_config, metrics)
    assert sorted(image_id for image_id, _ in seen) == [0, 1, 2, 3, 4]
    assert {"AP", "AP50", "AP75", "AR"} <= set(metrics)
    assert len(results) == sum(count for _, count in seen)
    # One network size, whatever the number of people and the last batch's length.
    assert predictors[0].compile_count == 1


# ---- Difficult scenes, through the pipeline of the real data

CROWDED = 5  # persons of one image; config.dataset.max_persons keeps 3


def write_difficult_scenes(folder):
    """Images 1000.. train, 2000.. val: nobody, a crowd, somebody far outside, one keypoint."""
    fake_coco.write_fake_coco(folder, num_images=4, sizes=(SPLIT_SIZES,))
    rng = np.random.default_rng(1)
    inside = [fake_coco.random_keypoints(rng, *SPLIT_SIZES, 17) for _ in range(CROWDED)]
    outside = inside[0] + [500, -500, 0]
    one = np.zeros((17, 3))
    one[0] = 30, 30, 2
    people = {1: inside, 2: [inside[1], outside], 3: [one]}
    for split, first in (("train", 1000), ("val", 2000)):
        path = folder / "annotations" / f"person_keypoints_{split}2017.json"
        images = json.loads(path.read_text())["images"]
        annotations = [
            fake_coco.annotation(10 * number + i + 1, first + number, keypoints, area=2000.0)
            for number, found in people.items()
            for i, keypoints in enumerate(found)
        ]
        fake_coco.write_annotations(folder, split, images, annotations)
    return folder


@pytest.fixture(scope="module")
def difficult_config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("difficult")
    still = {"rotation": 0.0, "scale": (1.0, 1.0), "translation": 0.0, "flip": 0.0}
    return tiny.config(
        **{f"augmentation.{name}": value for name, value in still.items()},
        **{
            "dataset.name": "coco",
            "dataset.data_dir": str(write_difficult_scenes(folder / "coco")),
            "dataset.prepared_dir": str(folder / "prepared"),
            "train.epochs": 4.0,  # of 3 images: 3 steps
            "train.drop_epochs": (480.0, 640.0),  # as many steps as on the stream: same program
        },
    )


def test_difficult_scenes_train_and_evaluate(difficult_config, predictors, tmp_path):
    assert train_data.examples_per_epoch(difficult_config) == 3  # nobody: nothing to train on
    state = jax.device_get(runs.train(difficult_config, tmp_path))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert len(records) == 3 and all(record["loss"] is not None for record in records)
    # The crowd is seen in each of the four epochs.
    dropped = sum(record["persons_dropped"] for record in records)
    assert dropped == 4 * (CROWDED - difficult_config.dataset.max_persons)

    _, variables = reading.load_variables(tmp_path)
    metrics = runs.evaluate(difficult_config, variables, tmp_path / "eval")
    check_evaluation(tmp_path / "eval", difficult_config, metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    assert predictors[0].compile_count == 1


def test_the_step_only_sees_the_persons_that_fit(difficult_config):
    batch = next(train_data.train_batches(difficult_config, 0))
    persons = dict(zip(batch["image_id"].tolist(), (batch["area"] > 0).sum(1), strict=True))
    assert persons == {1001: 3, 1002: 1, 1003: 1}


# ---- The programs

IMPORT_ALL = """
import importlib, pathlib, sys
sys.modules["tensorflow"] = None
for path in sorted(pathlib.Path("pinet_jax").rglob("*.py")):
    parts = path.with_suffix("").parts
    importlib.import_module(".".join(part for part in parts if part != "__init__"))
"""


def test_the_library_imports_without_tensorflow():
    programs.output_anew("-c", IMPORT_ALL)


def test_the_programs_hand_over_to_each_other(crowd_config, tmp_path):
    """train.py and predict.py on a machine without TensorFlow, eval.py with it."""
    workdir, config = tmp_path / "run", f"--config={tiny.PATH}"
    two_steps = config, f"--workdir={workdir}", "--config.train.epochs=0.5"
    programs.output_of("train.py", *two_steps, with_tensorflow=False)
    assert list(losses_of(workdir)) == [1, 2]

    on_disk = (
        "--config.dataset.name=synthcrowd",
        f"--config.dataset.data_dir={crowd_config.dataset.data_dir}",
    )
    printed = programs.output_of("eval.py", config, f"--workdir={workdir}", *on_disk)
    metrics = json.loads((workdir / "eval_val" / "metrics.json").read_text())
    check_evaluation(workdir / "eval_val", crowd_config, metrics)
    assert scoring.table(metrics) in printed

    images = [tmp_path / name for name in ("large.png", "small.jpg")]
    rng = np.random.default_rng(0)
    for path, shape in zip(images, [(50, 50, 3), (70, 70, 3)], strict=True):
        cv2.imwrite(str(path), rng.integers(0, 256, shape, np.uint8))
    out = tmp_path / "out"
    arguments = f"--checkpoint={workdir}", *images, f"--out={out}"
    programs.output_of("predict.py", *arguments, with_tensorflow=False)
    assert sorted(path.name for path in out.iterdir()) == [
        "large.png", "predictions.json", "small.png",
    ]  # fmt: skip
    written = json.loads((out / "predictions.json").read_text())
    assert [image["file_name"] for image in written["images"]] == list(map(str, images))
    sizes = [(image["height"], image["width"]) for image in written["images"]]
    assert sizes == [(50, 50), (70, 70)]
    assert {result["image_id"] for result in written["results"]} <= {1, 2}
