"""The released network: its sizes, its numbers, its weights there and back."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import network
from pinet_jax.methods.variables import shapes
from pinet_jax.weights import convert
from tests import tiny
from tests.paths import GOLDEN

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5  # of the maximum


def shapes_of(config):
    """Params of the config's model, without computing any."""
    return shapes(network.build(config))["params"]


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def assert_close(found, golden):
    np.testing.assert_allclose(found, golden, rtol=0, atol=TOLERANCE * np.abs(golden).max())


# ---- Sizes


def test_parameter_count_of_the_coco_network(released):
    params = released[2]["params"]
    assert count(params["backbone"]) == 29_305_536
    assert count(params) == 31_232_701


@pytest.mark.parametrize(
    ("skeleton", "total"),
    [("coco", 31_696_381), ("crowdpose", 31_683_301)],  # OCHuman has COCO's keypoints
)
def test_parameter_counts_with_three_graph_layers(skeleton, total):
    config = load_config("coco", {"dataset.skeleton": skeleton, "model.graph_layers": 3})
    assert count(shapes_of(config)) == total


# ---- Numbers


def test_golden_maps_and_refinement(released):
    _, model, variables = released
    forward = np.load(GOLDEN / "forward_coco.npz")
    refine = np.load(GOLDEN / "refine_coco.npz")

    def run(variables, image, poses, centers):
        maps = model.apply(variables, image)
        valid = jnp.ones(poses.shape[:2], bool)
        return maps, model.apply(variables, maps.features, poses, centers, valid, method="refine")

    centers = refine["part_center_yx"][..., ::-1].astype(np.int32)
    arguments = variables, forward["image_nhwc"], refine["pose_xy"], centers
    maps, delta = jax.jit(run)(*arguments)
    assert_close(maps.features[..., ::16], forward["features_every_16th_channel"])
    assert_close(maps.keypoint_heatmaps, forward["keypoint_heatmaps"])
    assert_close(maps.part_heatmaps, forward["part_heatmaps"])
    assert_close(np.reshape(maps.offsets, forward["offsets"].shape), forward["offsets"])
    assert_close(delta, refine["delta"])


# ---- There and back


def test_every_released_entry_comes_back_bit_for_bit(released, golden_state_dict):
    manifest = json.loads((GOLDEN / "manifest_coco.json").read_text())
    assert len(manifest) == 1881
    back = convert.to_torch(released[2])
    assert set(back) == {name for name, _ in manifest}
    for name, shape in manifest:
        assert back[name].shape == tuple(shape)
        assert back[name].dtype == golden_state_dict[name].dtype
        np.testing.assert_array_equal(back[name], golden_state_dict[name], err_msg=name)


@pytest.fixture(scope="module")
def tiny_weights():
    """A tiny config and random weights of it under their released names."""
    config = tiny.config()
    variables = tiny.random_variables(network.build(config))
    return config, variables, convert.to_torch(variables)


def test_variables_come_back_bit_for_bit(tiny_weights):
    config, variables, state_dict = tiny_weights
    back = convert.from_torch(state_dict, config)
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_missing_unknown_and_misshapen_entries_are_all_named(tiny_weights):
    config, _, state_dict = tiny_weights
    bad = dict(state_dict)
    del bad["pr.adj"]
    del bad["backbone.bn1.running_var"]
    bad["head.weight"] = np.zeros((3, 2))
    bad["ppg.offset_head.bias"] = np.zeros(7)
    with pytest.raises(UserError) as error:
        convert.from_torch(bad, config)
    message = str(error.value)
    assert "4 entries" in message and "\n" not in message
    for words in (
        r"missing pr\.adj \(17, 17\)",
        r"missing backbone\.bn1\.running_var \(16,\)",
        r"unknown head\.weight \(3, 2\)",
        r"ppg\.offset_head\.bias has shape \(7,\), the config wants \(102,\)",
    ):
        assert re.search(words, message), message


def test_counters_of_batches_are_not_asked_for(tiny_weights):
    config, _, state_dict = tiny_weights
    without = {n: x for n, x in state_dict.items() if not n.endswith("num_batches_tracked")}
    assert len(without) < len(state_dict)
    convert.from_torch(without, config)


def test_weights_of_another_network_are_refused(tiny_weights):
    _, _, state_dict = tiny_weights
    with pytest.raises(UserError, match="do not fit the config"):
        convert.from_torch(state_dict, tiny.config(**{"dataset.skeleton": "crowdpose"}))
