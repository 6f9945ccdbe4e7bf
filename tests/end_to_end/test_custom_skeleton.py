"""The guide to a dataset of one's own: its script and its config, run on random pictures."""

import json
import re

import jax
import numpy as np
import pytest

from input_pipeline import train_data
from input_pipeline.source import Source
from pinet_jax import skeletons
from pinet_jax.config import check_same_model, load_config
from pinet_jax.errors import UserError
from pinet_jax.evaluation import loop
from pinet_jax.inference.predictor import Predictor
from pinet_jax.training.metrics_log import read_metrics
from pinet_jax.visualize import targets
from pinet_jax.weights import reading
from tests import devices, programs, runs, tiny
from tests.input_pipeline import fake_coco
from tests.paths import ROOT

GUIDE = ROOT / "docs" / "custom_dataset.md"
KEPT = (0, 9, 10, 15, 16)  # of COCO's keypoints, in the guide
TINY = {
    "compilation_cache": "",
    **{
        f"model.{name}": tiny.get_config().model[name] for name in ("width", "stem_width", "blocks")
    },
    "train.input_size": tiny.SIZE,
    "train.batch_size": 4,
    "train.epochs": 2.0,  # of 4 images: 2 steps
    "train.log_every": 1,
    "eval.input_size": tiny.SIZE,
    "eval.batch_size": 2,
    "eval.max_peaks": 5,
}


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with devices.use(1):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The guide's script and config, a small COCO, and what the script makes of it."""
    folder = tmp_path_factory.mktemp("custom")
    script, config = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (folder / "make_five_points.py").write_text(script)
    (folder / "five_points.py").write_text(config)
    fake_coco.write_fake_coco(folder / "COCO", num_images=6, sizes=((60, 60),))
    programs.output_of(folder / "make_five_points.py", folder / "COCO", folder / "five_points")
    return folder


@pytest.fixture(scope="module")
def config(folder):
    paths = {
        "dataset.data_dir": str(folder / "five_points"),
        "dataset.prepared_dir": str(folder / "prepared"),
    }
    return load_config(str(folder / "five_points.py"), TINY | paths)


@pytest.fixture(scope="module")
def trained(folder, config):
    """The workdir of two steps."""
    assert train_data.examples_per_epoch(config) == 4
    runs.train(config, folder / "run")
    return folder / "run"


def truth_of(config):
    return json.loads(Source(config).eval_annotations().read_text())


def test_the_script_keeps_five_keypoints(folder):
    for split in ("train", "val"):
        path = folder / "COCO" / fake_coco.ANNOTATIONS.format(split=split)
        before = json.loads(path.read_text())["annotations"]
        after = json.loads((folder / f"five_points/annotations/{split}.json").read_text())
        for old, new in zip(before, after["annotations"], strict=True):
            points = np.reshape(old["keypoints"], (17, 3))[list(KEPT)]
            assert new["keypoints"] == points.ravel().tolist()
            assert new["num_keypoints"] == (points[:, 2] > 0).sum()


def test_the_network_and_its_targets_have_the_skeletons_shape(config):
    skeleton = skeletons.of(config)
    assert skeleton.num_keypoints == 5 and skeleton.flip_order == (0, 2, 1, 4, 3)
    (sample, *_) = targets.first_samples(config, 2, Source)
    side = tiny.SIZE // 4
    assert sample.keypoints.shape[1:] == (5, 3)
    assert sample.targets.keypoint_heatmaps.shape == (side, side, 5)
    assert sample.targets.offsets.shape == (side, side, 2, 5, 2)
    picture = targets.picture([sample], skeleton, skeleton.parts(config.model.partition))
    assert picture.std() > 10


def test_training_carries_the_skeleton_into_the_checkpoint(trained, config):
    records = read_metrics(trained / "metrics.jsonl")
    assert [record["step"] for record in records] == [1, 2]
    assert all(np.isfinite(record["loss"]) and record["offset_loss"] > 0 for record in records)
    saved, variables = reading.load_variables(trained)
    assert skeletons.of(saved) == skeletons.of(config)
    assert variables["params"]["refiner"]["adjacency"].shape == (5, 5)


def test_the_checkpoint_evaluates_and_predicts(trained, config, folder):
    saved, variables = reading.load_variables(trained)
    check_same_model(config, saved)
    metrics = runs.evaluate(config, variables, folder / "eval")
    assert all(np.isfinite(value) for value in metrics.values())
    results = json.loads((folder / "eval" / "results.json").read_text())
    assert results and all(len(result["keypoints"]) == 15 for result in results)
    assert {r["image_id"] for r in results} <= {image["id"] for image in truth_of(config)["images"]}

    image, _ = Source(config).load_eval_images([results[0]["image_id"]])[0]
    (people,) = Predictor(saved, variables)([image])
    found = [r for r in results if r["image_id"] == results[0]["image_id"]]
    poses = np.reshape([r["keypoints"] for r in found], (-1, 5, 3))[..., :2]
    np.testing.assert_allclose(people.keypoints[: len(found)], poses, atol=1e-2)


def test_predict_needs_no_config_file(trained, folder):
    pictures = sorted((folder / "five_points/images").glob("*.jpg"))[:2]
    out = folder / "found"
    programs.output_of(ROOT / "predict.py", f"--checkpoint={trained}", *pictures, f"--out={out}")
    content = json.loads((out / "predictions.json").read_text())
    assert len(content["images"]) == 2 and content["results"]
    assert all(len(result["keypoints"]) == 15 for result in content["results"])


def test_the_truth_as_results_scores_1(config, tmp_path):
    people = [a for a in truth_of(config)["annotations"] if a["num_keypoints"]]
    results = [
        {name: person[name] for name in ("image_id", "category_id", "keypoints")} | {"score": 0.9}
        for person in people
    ]
    metrics = loop.score(config, results, Source(config).eval_annotations(), tmp_path)
    assert len(results) > 3
    assert metrics["AP"] == pytest.approx(1) and metrics["AR"] == pytest.approx(1)
    off = [r | {"keypoints": [value + 30 for value in r["keypoints"]]} for r in results]
    assert loop.score(config, off, Source(config).eval_annotations(), None)["AP"] < 0.1


def test_the_programs_take_the_config_file(folder):
    """Its skeleton and its partitions are among the flags' fields."""
    path = folder / "five_points.py"
    printed = programs.output_of(ROOT / "tools/summary.py", f"--config={path}", "--size=64")
    assert "five_points keypoints; " in printed and "partition halves" in printed
    printed = programs.output_of(
        *(ROOT / "tools/occlusion.py", folder / "five_points/annotations/val.json"),
        *(f"--config={path}", f"--out={folder / 'hidden.png'}"),
    )
    assert "halves" in printed and "center" in printed


def test_another_skeletons_checkpoint_is_refused(trained, config, folder):
    other = load_config(str(folder / "five_points.py"), TINY | {"model.partition": "center"})
    saved, _ = reading.load_variables(trained)
    with pytest.raises(UserError, match=r"config.model.partition is 'halves' there"):
        check_same_model(other, saved)
    with pytest.raises(UserError, match="no partition 'part-large'"):
        skeletons.of(config).parts("part-large")


def test_annotations_of_another_skeleton_are_named(folder, config, tmp_path):
    fake_coco.write_fake_coco(
        tmp_path / "data",
        num_images=2,
        annotation_file="annotations/{split}.json",
        image_folder="images",
    )
    other = config.copy_and_resolve_references()
    other.dataset.data_dir = str(tmp_path / "data")
    with pytest.raises(UserError, match="51 numbers in 'keypoints' and not 3 x 5"):
        train_data.examples_per_epoch(other)


def test_variables_have_no_room_for_17_keypoints(trained):
    _, variables = reading.load_variables(trained)
    sizes = {size for leaf in jax.tree.leaves(variables["params"]["ppg"]) for size in leaf.shape}
    assert {5, 2, 2 * 5 * 2} <= sizes and not {17, 2 * 17, 3 * 17} & sizes
