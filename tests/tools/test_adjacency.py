"""tools/adjacency.py: from checkpoints to a picture."""

import subprocess

import numpy as np
import pytest
from PIL import Image

from pinet_jax.config import save_config
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import network
from pinet_jax.methods.pinet.refinement import skeleton_adjacency
from pinet_jax.skeletons import COCO
from pinet_jax.weights import checkpoints
from tests import programs, tiny
from tools import adjacency


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a run whose adjacency grows with the steps 5 and 10."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny.config()
    variables = tiny.random_variables(network.build(config))
    start = skeleton_adjacency(COCO.limbs, 17)
    save_config(folder, config)
    with checkpoints.Checkpoints(folder, keep=2) as saved:
        for step in (5, 10):
            variables["params"]["refiner"]["adjacency"] = start + 0.01 * step
            saved.save({"step": np.array(step), **variables})
    return folder


def draw(*arguments) -> subprocess.CompletedProcess:
    return programs.run("tools/adjacency.py", *arguments)


def test_a_workdir_stands_for_all_its_checkpoints(workdir, tmp_path):
    done = draw("--checkpoint", workdir, "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "step 5: largest change 0.050",
        "step 10: largest change 0.100",
    ]
    assert Image.open(tmp_path / "a.png").size[0] > 900  # three panels


def test_checkpoints_are_read_in_the_order_given(workdir):
    folders = [workdir / "checkpoints" / step for step in ("10", "5")]
    assert adjacency.steps(workdir) == folders[::-1]
    assert adjacency.steps(folders[0]) == folders[:1]
    _, matrices = adjacency.read_all(folders)
    start = skeleton_adjacency(COCO.limbs, 17)
    np.testing.assert_allclose(matrices[0], start + 0.1, atol=1e-6)
    np.testing.assert_allclose(matrices[1], start + 0.05, atol=1e-6)


def test_a_model_that_learned_none(tmp_path):
    config = tiny.config(**{"model.graph": "static"})
    variables = tiny.random_variables(network.build(config))
    checkpoints.save_variables(tmp_path / "static", config, variables)
    with pytest.raises(UserError, match=r"static' has no learned adjacency"):
        adjacency.read_all([tmp_path / "static"])


def test_mistakes_end_with_one_sentence_and_code_2(tmp_path):
    for arguments, words in [
        (("--out", tmp_path / "a.png"), "Give --checkpoint and --out"),
        (("--checkpoint", tmp_path, "--out", tmp_path / "a.png"), "No checkpoint in"),
    ]:
        done = draw(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ") and words in done.stderr
