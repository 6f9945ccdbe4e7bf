"""tools/train_correspondences.py as a program: both stages, a stop between, weights that track."""

import numpy as np
import pytest

from pinet_jax import Predictor, Tracker, methods
from pinet_jax.config import load_config, with_fields
from pinet_jax.tracking.correspondences import weights
from pinet_jax.weights import checkpoints, reading
from tests import programs, tiny
from tests.paths import ROOT

pytestmark = pytest.mark.slow

SMALL = {
    "synthcrowd.image_size": 64,
    "synthcrowd.people": "(1,2)",
    "stills.view_size": 64,
    "stills.num_synthetic": 4,
    "stills.people": 2,
    "stills.min_side": 16.0,
    "train.batch_size": 2,
    "train.checkpoint_every": 1,
    "correspondences.refinement_steps": 2,
    "correspondences.num_checks": 2,
    "compilation_cache": "",
}


def train(workdir, *flags, **changes):
    fields = SMALL | {"correspondences.affinity_steps": 2} | changes
    return programs.run(
        ROOT / "tools/train_correspondences.py",
        f"--config={ROOT / 'configs/correspondences.py'}",
        f"--workdir={workdir}",
        *flags,
        *(f"--config.{name}={value}" for name, value in fields.items()),
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("correspondences")
    done = train(folder)
    assert done.returncode == 0, done.stderr
    assert "synthetic, trained" in done.stdout
    return folder


def test_it_writes_weights_that_the_tracker_takes(workdir):
    path = workdir / "correspondences.npz"
    config = load_config("coco", {"tracking.weights": str(path)})
    assert weights.load(config).variables["params"]["scale"] == pytest.approx(20, abs=0.1)


def test_stage_2_leaves_the_features_alone_and_stage_1_the_refinement(workdir):
    steps = [
        reading.read_item(workdir / "checkpoints" / str(step), "variables")["params"]
        for step in (2, 3, 4)
    ]
    for name, moves in (("features", False), ("context", True), ("refinement", True)):
        before, _, after = (list(_leaves(params[name])) for params in steps)
        same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert same != moves, name


def _leaves(tree):
    for value in tree.values():
        yield from _leaves(value) if isinstance(value, dict) else [np.asarray(value)]


def test_started_again_it_goes_on_and_ends_where_it_would_have(workdir):
    path = workdir / "correspondences.npz"
    whole = dict(np.load(path))
    last = workdir / "checkpoints" / "4"
    for part in sorted(last.rglob("*"), reverse=True):
        part.unlink() if part.is_file() else part.rmdir()
    last.rmdir()
    done = train(workdir)
    assert done.returncode == 0, done.stderr
    again = dict(np.load(path))
    assert whole.keys() == again.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_features_are_read_off_the_map_of_a_model_that_tracks_by_them(tmp_path):
    config = tiny.config()
    variables = tiny.random_variables(methods.of(config).build(config))
    checkpoints.save_variables(tmp_path / "model", config, variables)
    done = train(tmp_path / "shared", f"--checkpoint={tmp_path / 'model'}")
    assert done.returncode == 0, done.stderr
    trained = tmp_path / "shared" / "correspondences.npz"
    changes = {"tracking.features": "shared", "tracking.weights": str(trained)}
    tracker = Tracker(Predictor(with_fields(config, changes), variables))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    assert len(list(tracker([image] * 3))) == 3
    done = train(tmp_path / "shared")
    assert done.returncode == 2 and "was begun with another --checkpoint" in done.stderr
    done = train(tmp_path / "none", **{"tracking.features": "shared"})
    assert done.returncode == 2 and "--checkpoint is missing" in done.stderr


def test_a_mistake_ends_with_one_sentence(tmp_path):
    done = train(tmp_path, **{"stills.min_side": 1e6})
    assert done.returncode == 2 and "min_side" in done.stderr.splitlines()[-1]
