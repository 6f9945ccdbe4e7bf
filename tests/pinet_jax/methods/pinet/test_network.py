"""The network's pieces against NumPy, its variants, and what masked proposals may not do."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax.backbones import initializers
from pinet_jax.backbones.hrnet import HRNet
from pinet_jax.backbones.layers import CONV_INITS, BatchNorm, Conv
from pinet_jax.methods.pinet import network
from pinet_jax.methods.pinet.refinement import PR, GraphBlock, skeleton_adjacency
from pinet_jax.methods.variables import init, shapes
from tests import tiny
from tests.whole_loss import whole_loss

LIMBS = ((0, 1), (1, 2), (3, 4))
KEYPOINTS, FEATURES = 5, 6


def random_like(shapes, seed=0):
    """Random variables; variances positive."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        values = rng.normal(0, 0.5, leaf.shape).astype(np.float32)
        return np.abs(values) + 0.5 if path[-1].key == "var" else values

    return jax.tree_util.tree_map_with_path(fill, shapes)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ---- Layers


def slow_conv(x, kernel, stride):
    """PyTorch's: both sides padded by (size - 1) / 2."""
    size = kernel.shape[0]
    pad = (size - 1) // 2
    padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    rows = range(0, padded.shape[0] - size + 1, stride)
    columns = range(0, padded.shape[1] - size + 1, stride)
    return np.array(
        [
            [np.tensordot(padded[r : r + size, c : c + size], kernel, 3) for c in columns]
            for r in rows
        ]
    )


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (3, 1), (1, 1)])
def test_conv_pads_as_pytorch_does(kernel, stride):
    x, weight = normal(1, 6, 8, 3), normal(kernel, kernel, 3, 4, seed=1)
    conv = Conv(4, kernel, stride)
    found = conv.apply({"params": {"conv": {"kernel": weight}}}, x)
    np.testing.assert_allclose(found[0], slow_conv(x[0], weight, stride), atol=1e-5)


def batch_norm(x, mask=None, axis_name=None, train=True):
    """Output and new running statistics, from mean 1 and variance 2."""
    channels = x.shape[-1]
    variables = {
        "params": {"scale": jnp.full(channels, 1.5), "bias": jnp.full(channels, 0.25)},
        "batch_stats": {"mean": jnp.ones(channels), "var": jnp.full(channels, 2.0)},
    }
    y, updated = BatchNorm(axis_name).apply(
        variables, x, train, mask, mutable=["batch_stats"] if train else []
    )
    return y, updated.get("batch_stats")


def slow_batch_norm(x, kept):
    """PyTorch's: normalised by the biased variance, remembering the unbiased one."""
    rows = x[kept].astype(np.float64)
    mean, var = rows.mean(0), rows.var(0)
    y = 1.5 * (x - mean) / np.sqrt(var + 1e-5) + 0.25
    return y, 0.9 * 1 + 0.1 * mean, 0.9 * 2 + 0.1 * rows.var(0, ddof=1)


@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm_in_training(masked):
    x = 3 * normal(2, 5, 4) + 1
    mask = np.random.default_rng(1).random((2, 5)) > 0.4 if masked else None
    y, running = batch_norm(x, mask)
    kept = np.ones((2, 5), bool) if mask is None else mask
    want, mean, var = slow_batch_norm(x, kept)
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(running["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(running["var"], var, rtol=1e-5)


def test_batch_norm_in_evaluation():
    x = normal(3, 4)
    y, _ = batch_norm(x, train=False)
    np.testing.assert_allclose(y, 1.5 * (x - 1) / np.sqrt(2 + 1e-5) + 0.25, atol=1e-6)


def test_batch_norm_of_nothing_keeps_the_running_statistics():
    y, running = batch_norm(normal(3, 4), np.zeros(3, bool))
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(running["mean"], 1)
    np.testing.assert_array_equal(running["var"], 2)


def test_batch_norm_over_an_axis_is_exact_for_unequal_shares():
    x, mask = normal(2, 6, 4), np.array([[True] * 6, [True] + [False] * 5])
    y, running = jax.vmap(functools.partial(batch_norm, axis_name="a"), axis_name="a")(x, mask)
    whole, expected = batch_norm(x.reshape(12, 4), mask.reshape(12))
    np.testing.assert_allclose(y.reshape(12, 4), whole, atol=1e-5)
    for name in ("mean", "var"):
        for share in range(2):
            np.testing.assert_allclose(running[name][share], expected[name], rtol=1e-5)


# ---- Backbone


@pytest.mark.slow
@pytest.mark.parametrize("width", [18, 32, 48])
def test_backbone_widths(width):
    model = HRNet(width=width, modules=(1, 1, 1), blocks=1, dtype=jnp.bfloat16)
    variables = nn.meta.unbox(initializers.undrawn(model, jnp.zeros((1, 64, 96, 3))))
    features = jax.eval_shape(model.apply, variables, jnp.zeros((1, 64, 96, 3)))
    assert features.shape == (1, 16, 24, 15 * width) and features.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    finest = variables["params"]["stage4_0"]["branch0_0"]["conv1"]["Conv_0"]["conv"]["kernel"]
    assert finest.shape == (3, 3, width, width)


@pytest.mark.slow
def test_modules_and_blocks_are_counted_as_in_the_release():
    model = HRNet()
    params = nn.meta.unbox(initializers.undrawn(model, jnp.zeros((1, 64, 64, 3))))["params"]

    def number(prefix):
        return sum(name.startswith(prefix) for name in params)

    assert [number(f"stage{s}_") for s in (2, 3, 4)] == [1, 4, 3]
    assert number("layer1_") == 4
    module = params["stage4_2"]
    assert sum(name.startswith("branch3_") for name in module) == 4


# ---- The whole network


class PatchBackbone(nn.Module):
    """Stands in for HRNet where only the heads and the refinement are looked at."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(8, (4, 4), (4, 4), padding="VALID")(images)
        return nn.relu(BatchNorm()(x, train))


def patch_network(**overrides):
    """Config, network on PatchBackbone, random variables."""
    config = tiny.config(**overrides)
    model = network.build(config).clone(backbone=PatchBackbone())
    return config, model, tiny.random_variables(model)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_maps_of_the_tiny_network(dtype):
    model = network.build(tiny.config(dtype=dtype))
    variables = shapes(model)
    maps = jax.eval_shape(model.apply, variables, jnp.zeros((2, 64, 128, 3)))
    assert maps.features.shape == (2, 16, 32, 120) and maps.features.dtype == dtype
    assert maps.keypoint_heatmaps.shape == (2, 16, 32, 17)
    assert maps.part_heatmaps.shape == (2, 16, 32, 3)
    assert maps.offsets.shape == (2, 16, 32, 3, 17, 2)
    for array in (maps.keypoint_heatmaps, maps.part_heatmaps, maps.offsets):
        assert array.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("partition", "parts"), [("center", 1), ("head", 1), ("part-small", 7), ("keypoint", 13)]
)
def test_a_partition_sets_the_number_of_part_maps(partition, parts):
    _, model, variables = patch_network(**{"model.partition": partition})
    maps = jax.eval_shape(model.apply, variables, jnp.zeros((1, 32, 32, 3)))
    assert maps.part_heatmaps.shape == (1, 8, 8, parts)
    assert maps.offsets.shape == (1, 8, 8, parts, 17, 2)


def test_offsets_are_ordered_part_keypoint_axis():
    _, model, variables = patch_network()
    images = normal(1, 32, 32, 3)
    maps = jax.jit(model.apply)(variables, images)
    head = variables["params"]["ppg"]["offset_head"]["conv"]
    flat = np.asarray(maps.features) @ head["kernel"][0, 0] + head["bias"]
    for part, keypoint, axis in [(0, 0, 0), (0, 3, 1), (2, 16, 0)]:
        channel = part * 34 + keypoint * 2 + axis
        np.testing.assert_allclose(
            maps.offsets[..., part, keypoint, axis], flat[..., channel], atol=1e-4
        )


def test_without_refinement_the_delta_is_zero_and_costs_no_parameter():
    _, model, variables = patch_network(**{"model.refinement": False})
    assert not model.refinement and set(variables["params"]) == {"backbone", "ppg"}
    poses = normal(2, 4, 17, 2)
    centers, valid = np.zeros((2, 4, 2), np.int32), np.ones((2, 4), bool)
    delta = model.apply(variables, normal(2, 8, 8, 8), poses, centers, valid, method="refine")
    np.testing.assert_array_equal(delta, np.zeros((2, 4, 17, 2)))


# ---- Refinement


def test_skeleton_adjacency():
    found = skeleton_adjacency(LIMBS, KEYPOINTS)
    degree = [2, 3, 2, 2, 2]
    for a in range(KEYPOINTS):
        for b in range(KEYPOINTS):
            linked = a == b or (a, b) in LIMBS or (b, a) in LIMBS
            assert found[a, b] == pytest.approx(linked / np.sqrt(degree[a] * degree[b]))


def slow_refinement(variables, nodes, center, adjacency, layers):
    """The delta of one proposal, [K, F] and [F] to [K, 2], in evaluation mode."""
    params, stats = variables["params"], variables["batch_stats"]

    def norm(x, scale_bias, running):
        x = (x - running["mean"]) / np.sqrt(running["var"] + 1e-5)
        return np.maximum(x * scale_bias["scale"] + scale_bias["bias"], 0)

    def block(x, name):
        p = params[name]
        x = adjacency @ (x @ p["weight"]) + p["bias"]
        return norm(x, p["norm"], stats[name]["norm"])

    def dense(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    x = block(nodes.astype(np.float64), "input")
    for i in range(layers):
        x = x + block(block(x, f"layer{i}_1"), f"layer{i}_2")
    pooled = np.concatenate([x.mean(0), x.max(0), center])
    hidden = norm(dense(pooled, "hidden"), params["hidden_norm"], stats["hidden_norm"])
    return dense(hidden, "delta").reshape(-1, 2)


@pytest.mark.parametrize(
    ("graph", "layers"), [("dynamic", 2), ("dynamic", 3), ("static", 1), ("none", 1)]
)
def test_refinement_against_one_proposal_at_a_time(graph, layers):
    model = PR(KEYPOINTS, LIMBS, graph, layers)
    nodes, centers = normal(2, 3, KEYPOINTS, FEATURES), normal(2, 3, FEATURES, seed=1)
    valid = np.array([[True, True, False], [True, False, False]])
    variables = random_like(nn.meta.unbox(initializers.undrawn(model, nodes, centers, valid)))
    trained = "adjacency" in variables["params"]
    assert trained == (graph == "dynamic")
    adjacency = {"static": skeleton_adjacency(LIMBS, KEYPOINTS), "none": np.eye(KEYPOINTS)}.get(
        graph
    )
    adjacency = variables["params"]["adjacency"] if trained else adjacency
    found = jax.jit(model.apply)(variables, nodes, centers, valid)
    for b, n in np.ndindex(2, 3):
        want = slow_refinement(variables, nodes[b, n], centers[b, n], adjacency, layers)
        np.testing.assert_allclose(found[b, n], want, rtol=1e-4, atol=1e-4)


def test_the_adjacency_starts_from_the_skeleton():
    model = PR(KEYPOINTS, LIMBS, "dynamic", 1)
    arguments = jnp.zeros((1, 1, KEYPOINTS, 2)), jnp.zeros((1, 1, 2)), jnp.ones((1, 1), bool)
    params = init_of(model, *arguments)
    np.testing.assert_array_equal(params["adjacency"], skeleton_adjacency(LIMBS, KEYPOINTS))


def test_masked_proposals_change_nothing():
    """Neither the valid deltas, nor any statistic, nor any gradient: to the last bit."""
    _, model, variables = patch_network(**{"model.graph_layers": 1})
    features, valid = normal(2, 8, 8, 8), np.arange(6).reshape(2, 3) % 3 != 1
    poses = 8 * np.random.default_rng(2).random((2, 3, 17, 2), np.float32)
    centers = np.random.default_rng(3).integers(0, 8, (2, 3, 2)).astype(np.int32)

    @jax.jit
    def run(poses, centers):
        def loss(params):
            delta, updated = model.apply(
                {**variables, "params": params},
                *(features, poses, centers, valid),
                train=True,
                method="refine",
                mutable=["batch_stats"],
            )
            return (delta**2 * valid[..., None, None]).sum(), (delta, updated)

        return jax.grad(loss, has_aux=True)(variables["params"])

    gradients, (delta, updated) = run(poses, centers)
    other = np.where(valid[..., None, None], poses, 1e3 * normal(2, 3, 17, 2, seed=4))
    others = np.where(valid[..., None], centers, 7 - centers)
    changed_gradients, (changed_delta, changed) = run(other, others)
    assert not np.array_equal(delta[~valid], changed_delta[~valid])
    np.testing.assert_array_equal(delta[valid], changed_delta[valid])
    jax.tree.map(np.testing.assert_array_equal, updated, changed)
    jax.tree.map(np.testing.assert_array_equal, gradients, changed_gradients)


@pytest.mark.slow
def test_room_for_more_samples_than_there_are_changes_no_loss():
    """A part of one person owns 16 pixels: whatever is sampled beyond them is masked."""
    batch = tiny.batch(1, persons=1)
    found = []
    for samples in (16, 40):
        config, model, variables = patch_network(**{"losses.samples_per_part": samples})
        _, (metrics, stats) = jax.jit(
            lambda v, m=model, c=config: whole_loss(m, v["params"], v["batch_stats"], batch, c)
        )(variables)
        found.append((metrics, stats))
    assert found[0][0]["num_samples"] > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found)


# ---- Fresh weights


def init_of(module, *arguments):
    return initializers.draw(initializers.undrawn(module, *arguments), seed=0)["params"]


def test_initial_convolutions():
    x = jnp.zeros((1, 4, 4, 64))
    released = init_of(Conv(256, use_bias=True), x)["conv"]
    assert np.std(released["kernel"]) == pytest.approx(0.001, rel=0.01)
    assert not np.any(released["bias"])
    kernel = init_of(Conv(256, kernel_init=CONV_INITS["he"]), x)["conv"]["kernel"]
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.02)


def test_initial_graph_weights_are_xavier_uniform():
    block = GraphBlock(96, None)
    valid = jnp.ones((1, 1), bool)
    params = init_of(block, jnp.zeros((1, 1, 3, 48)), None, valid, False)
    limit = 1.414 * np.sqrt(6 / (48 + 96))
    weight = np.asarray(params["weight"])
    assert 0.98 * limit < np.abs(weight).max() <= limit
    assert weight.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)


def assert_uniform(values, bound):
    """Drawn evenly from [-bound, bound]; of a few dozen values at least."""
    values = np.asarray(values)
    assert 0.9 * bound < np.abs(values).max() <= bound
    assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.15)
    assert abs(values.mean()) < 0.2 * bound


def test_the_refinement_starts_as_pytorch_starts_it():
    channels, keypoints = 96, 17
    model = PR(keypoints, ((0, 1),), "dynamic", 1)
    nodes, centers = jnp.zeros((1, 1, keypoints, channels)), jnp.zeros((1, 1, channels))
    params = init_of(model, nodes, centers, jnp.ones((1, 1), bool))
    for name, fan_in in (("hidden", 3 * channels), ("delta", channels)):
        assert params[name]["kernel"].shape[0] == fan_in
        assert_uniform(params[name]["kernel"], fan_in**-0.5)
        assert_uniform(params[name]["bias"], fan_in**-0.5)
    for name in ("input", "layer0_1", "layer0_2"):
        assert_uniform(params[name]["bias"], channels**-0.5)


def test_a_seed_always_draws_the_same_network():
    model = network.build(tiny.config())
    first, again, other = (init(model, seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernels = (v["params"]["ppg"]["offset_head"]["conv"]["kernel"] for v in (first, other))
    assert not np.array_equal(*kernels)
