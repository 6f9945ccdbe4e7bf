"""Real images and annotations of every dataset: prepared, trained on and scored."""

import json
import pathlib

import jax
import numpy as np
import pytest

from input_pipeline import train_data
from input_pipeline.storage import downloads
from input_pipeline.storage import splits as datasets
from pinet_jax import skeletons
from pinet_jax.config import load_config
from pinet_jax.evaluation import scoring
from pinet_jax.training.metrics_log import read_metrics
from pinet_jax.weights import reading
from tests import devices, runs, tiny
from tests.paths import DATA

STEPS = 2
# Images, and persons to be found, of what each sample trains and evaluates on.
SAMPLES = {
    "ochuman": ({"val": (3, 5)}, {"test": (3, 5)}),
    "crowdpose": ({"train": (1, 2), "val": (1, 2)}, {"test": (2, 4)}),
    "coco": ({"train": (80, 86)}, {"val": (111, 180)}),
}


@pytest.fixture(scope="module", params=SAMPLES)
def name(request):
    if not (DATA / request.param).is_dir():
        pytest.skip(f"the real sample of {request.param} is not there")
    return request.param


@pytest.fixture(scope="module")
def config(name, tmp_path_factory):
    """The dataset's own config around the tiny network, on a folder that is prepared."""
    recipe = load_config(name)
    fields = ("name", "skeleton", "train_split", "eval_split")
    config = tiny.config(
        **{f"dataset.{field}": recipe.dataset[field] for field in fields},
        **{
            "dataset.data_dir": str(DATA / name),
            "eval.square": 1.0,  # one shape
        },
    )
    out = tmp_path_factory.mktemp(name) / "prepared"
    for splits in SAMPLES[name]:
        for split in splits:
            downloads.prepare_into(config, out, split)
    config.dataset.data_dir = str(out)
    return config


def test_the_summary_counts_the_sample(name, config):
    expected = {split: counts for splits in SAMPLES[name] for split, counts in splits.items()}
    summary = json.loads((pathlib.Path(config.dataset.data_dir) / "summary.json").read_text())
    for split, (images, persons) in expected.items():
        counts = summary["splits"][split]["counts"]
        assert (counts["images"], counts["persons_scored"]) == (images, persons)
        examples = datasets.open_split(config, split)
        assert len(examples) == images
        assert sum(len(examples[n].keypoints) for n in range(images)) == persons
        assert summary["splits"][split]["skipped"] == {}


def test_the_truth_as_prepared_scores_one(config):
    split = config.dataset.eval_split
    examples = datasets.open_split(config, split)
    results = [
        {
            "image_id": example.image_id,
            "category_id": 1,
            "keypoints": keypoints.ravel().tolist(),
            "score": 1.0,
        }
        for example in map(examples.__getitem__, range(len(examples)))
        for keypoints in example.keypoints
    ]
    truth = datasets.annotations_path(config, split)
    metrics = scoring.metrics(scoring.match(results, truth, skeletons.of(config), 20))
    assert metrics["AP"] == pytest.approx(1) and metrics["AR"] == pytest.approx(1)


def test_it_trains_and_evaluates(config, tmp_path):
    steps_per_epoch = train_data.examples_per_epoch(config) / config.train.batch_size
    config.train.epochs = STEPS / steps_per_epoch
    # As many steps as in the other tests of the tiny network: the same program.
    config.train.drop_epochs = (360 / steps_per_epoch, 480 / steps_per_epoch)
    with devices.use(1):
        state = jax.device_get(runs.train(config, tmp_path))
        assert state.step == STEPS
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        assert len(read_metrics(tmp_path / "metrics.jsonl")) == STEPS
        _, variables = reading.load_variables(tmp_path)
        metrics = runs.evaluate(config, variables, tmp_path / "eval")
    assert 0 <= metrics["AP"] <= 1
    results = json.loads((tmp_path / "eval" / "results.json").read_text())
    known = datasets.open_split(config, config.dataset.eval_split).index.image_id
    assert {result["image_id"] for result in results} <= set(known.tolist())
