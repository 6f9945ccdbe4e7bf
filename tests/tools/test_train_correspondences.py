"""tools/train_correspondences.py as a program: both stages, a stop between, weights that track."""

import numpy as np
import pytest

from pinet_jax.config import load_config
from pinet_jax.tracking.correspondences import weights
from pinet_jax.weights import reading
from tests import programs
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


def train(workdir, **changes):
    fields = SMALL | {"correspondences.affinity_steps": 2} | changes
    return programs.run(
        ROOT / "tools/train_correspondences.py",
        f"--config={ROOT / 'configs/correspondences.py'}",
        f"--workdir={workdir}",
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


def test_a_mistake_ends_with_one_sentence(tmp_path):
    done = train(tmp_path, **{"stills.min_side": 1e6})
    assert done.returncode == 2 and "min_side" in done.stderr.splitlines()[-1]
