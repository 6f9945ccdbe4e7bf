"""The file of weights, and those of the package."""

import jax
import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.methods.variables import shapes
from pinet_jax.tracking.correspondences import network, weights
from pinet_jax.tracking.correspondences.warping import Warper
from tests import tiny


def test_what_is_saved_is_read_again(tmp_path):
    config = load_config("crowdpose", {"tracking.weights": str(tmp_path / "w.npz")})
    variables = tiny.random_variables(network.build(config))
    weights.save(tmp_path / "w.npz", variables, config)
    loaded = weights.load(config)
    assert loaded.keypoints == skeletons.CROWDPOSE.keypoints
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
        loaded.variables,
        variables,
    )


def test_the_packages_weights_fit_and_are_small():
    config = load_config("coco")
    loaded = weights.load(config)
    weights.check(loaded.variables, shapes(network.build(config)), weights.SHIPPED)
    assert weights.knows(loaded, skeletons.COCO.keypoints)
    assert weights.SHIPPED.stat().st_size < 800_000


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"tracking.weights": "nowhere.npz"}, "Cannot read"),
        ({"tracking.weights": __file__}, "train_correspondences"),
        ({"tracking.normalise": "released"}, "is of config.tracking.normalise 'unit'"),
    ],
)
def test_wrong_weights_are_named(overrides, words):
    with pytest.raises(UserError, match=words):
        Warper(load_config("coco", overrides))


def test_another_network_is_named(tmp_path):
    config = load_config("coco", {"tracking.weights": str(tmp_path / "w.npz")})
    variables = tiny.random_variables(network.build(config))
    variables["params"]["features"]["stem1"]["Conv_0"]["conv"]["kernel"] = np.zeros((1, 1, 3, 16))
    weights.save(tmp_path / "w.npz", variables, config)
    with pytest.raises(UserError, match="is of another config"):
        Warper(config)
