"""Backbones published for ImageNet, with the names of HRNet's authors and of timm."""

import jax
import numpy as np
import pytest

from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import network
from pinet_jax.weights import convert
from tests import tiny
from tests.golden import weights
from tests.paths import GOLDEN

pytestmark = pytest.mark.slow

HEAD = {
    "incre_modules.0.0.conv1.weight": (32, 18, 1, 1),
    "incre_modules.0.0.downsample.1.running_mean": (128,),
    "downsamp_modules.2.0.bias": (1024,),
    "final_layer.0.weight": (2048, 1024, 1, 1),
    "final_layer.1.running_var": (2048,),
    "classifier.weight": (1000, 2048),
}


def shapes_of_bare_names(config) -> dict[str, tuple[int, ...]]:
    names = {n.removeprefix("backbone."): entry for n, entry in convert._entries(config).items()}
    return {n: shape for n, (path, shape) in names.items() if path[1] == "backbone"}


@pytest.fixture(scope="module")
def fill():
    return lambda shapes: {n: weights.fill(n, s, seed=4) for n, s in shapes.items()}


def test_golden_features_of_timms_hrnet_w18(fill):
    """timm 1.0.31's hrnet_w18, every tensor set by `fill`; its four branches concatenated."""
    config = load_config("coco", {"dtype": "float32", "model.width": 18})
    state_dict = fill(shapes_of_bare_names(config) | HEAD)
    variables = convert.from_torch(state_dict, config)
    assert {kind: set(tree) for kind, tree in variables.items()} == {
        "params": {"backbone"},
        "batch_stats": {"backbone"},
    }
    backbone = {kind: tree["backbone"] for kind, tree in variables.items()}
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    features = jax.jit(network.build(config).backbone.apply)(backbone, image)[..., ::16]
    golden = np.load(GOLDEN / "features_hrnet_w18.npz")["features_every_16th_channel"]
    np.testing.assert_allclose(features, golden, atol=2e-5 * np.abs(golden).max())


@pytest.mark.parametrize(("width", "count"), [(18, 9_562_260), (32, 29_305_536), (48, 65_325_120)])
def test_the_backbones_timm_has_by_size(width, count):
    config = load_config("coco", {"model.width": width})
    entries = {n: s for n, (p, s) in convert._entries(config).items() if p[1] == "backbone"}
    assert len(entries) == 1525  # of 1830, the other 305 being counters of batches
    weights = [s for n, s in entries.items() if "running" not in n]
    assert sum(int(np.prod(s)) for s in weights) == count


def test_a_backbone_comes_back_under_its_own_names(fill):
    config = tiny.config(**tiny.RELEASABLE)
    state_dict = fill(shapes_of_bare_names(config))
    back = convert.to_torch(convert.from_torch(state_dict | fill(HEAD), config))
    back = {n: x for n, x in back.items() if not n.endswith("num_batches_tracked")}
    assert back.keys() == state_dict.keys()
    for name, array in state_dict.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_names_of_a_backbones_errors_are_those_of_the_file(fill):
    config = tiny.config(**tiny.RELEASABLE)
    state_dict = fill(shapes_of_bare_names(config))
    del state_dict["stage4.0.fuse_layers.3.2.0.1.bias"]
    state_dict["head.fc.weight"] = np.zeros((3, 2))
    with pytest.raises(UserError) as error:
        convert.from_torch(state_dict, config)
    assert "missing stage4.0.fuse_layers.3.2.0.1.bias (64,)" in str(error.value)
    assert "unknown head.fc.weight (3, 2)" in str(error.value)


def test_wrappers_change_nothing(fill):
    config = tiny.config(**tiny.RELEASABLE)
    released = fill({n: shape for n, (_, shape) in convert._entries(config).items()})
    wrapped = {"state_dict": {"module." + n: x for n, x in released.items()}, "epoch": 3}
    want, got = (convert.from_torch(weights, config) for weights in (released, wrapped))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    bare = fill(shapes_of_bare_names(config))
    wrapped = {"module." + n: x for n, x in bare.items()}
    want, got = (convert.from_torch(weights, config) for weights in (bare, wrapped))
    jax.tree.map(np.testing.assert_array_equal, got, want)
