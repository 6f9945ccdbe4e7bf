"""Losses against slow NumPy references, over a device axis and on empty batches."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import get_config
from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import normalise
from pinet_jax.methods.pinet import network
from pinet_jax.methods.pinet.losses import (
    count_batch,
    gather_locations,
    heatmap_loss,
    offset_loss,
    refinement_loss,
    sample_locations,
    smooth_l1,
    targets_of,
)
from pinet_jax.methods.pinet.ppg import Maps
from pinet_jax.methods.pinet.targets import Targets, render_targets
from pinet_jax.methods.variables import init
from tests.paths import GOLDEN
from tests.whole_loss import whole_loss

PARTS = ((0, 1), (2, 3, 4))
KEYPOINTS = 5


class LinearModel(nn.Module):
    """The network's interface with 1x1 maps only: no pixel and no image sees another.

    `refine` leaves its poses unprotected, so that a gradient into them would show.
    """

    refinement: bool = True
    parts: tuple = PARTS

    def setup(self):
        self.stem = nn.Dense(6)
        self.heads = [nn.Dense(n) for n in (KEYPOINTS, len(PARTS), len(PARTS) * KEYPOINTS * 2)]
        self.delta = nn.Dense(KEYPOINTS * 2)
        self.passes = [
            self.variable("batch_stats", name, jnp.zeros, ()) for name in ("maps", "refine")
        ]

    def __call__(self, images, train=False):
        if train:
            self.passes[0].value += 1
        features = self.stem(nn.avg_pool(images, (4, 4), (4, 4)))
        keypoints, parts, offsets = (head(features) for head in self.heads)
        return Maps(
            features=features,
            keypoint_heatmaps=keypoints,
            part_heatmaps=parts,
            offsets=offsets.reshape(*features.shape[:3], len(PARTS), KEYPOINTS, 2),
        )

    def refine(self, features, poses, centers, valid, train=False):
        if train:
            self.passes[1].value += 1
        rows = jnp.arange(len(features))[:, None]
        read = features[rows, centers[..., 1], centers[..., 0]]
        return 0.1 * poses + self.delta(read).reshape(poses.shape)

    def init_all(self, images):
        maps = self(images)
        centers = jnp.zeros((len(images), 1, 2), jnp.int32)
        poses = jnp.zeros((len(images), 1, KEYPOINTS, 2))
        self.refine(maps.features, poses, centers, jnp.ones((len(images), 1), bool))


def make_config(convention="released", samples=12):
    config = get_config()
    config.dtype = "float32"
    config.targets.convention = convention
    config.losses.samples_per_part = samples
    return config


def make_batch(seed, images=4, persons=3, keypoints=KEYPOINTS, size=64):
    """Persons of one image share a place, so that their parts contest pixels."""
    rng = np.random.default_rng(seed)
    center = rng.uniform(16, size - 16, (images, 1, 1, 2))
    xy = center + rng.normal(0, 8, (images, persons, keypoints, 2))
    labelled = rng.integers(0, 3, (images, persons, keypoints, 1))
    area = rng.uniform(1100, 9000, (images, persons))
    area[0] = 0  # an image without persons
    area[1, 1:] = 0
    return {
        "image": rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8),
        "keypoints": np.concatenate([xy, labelled], -1).astype(np.float32),
        "area": area.astype(np.float32),
        "region_mask": rng.random((images, size // 4, size // 4)) > 0.2,
    }


def without_persons(batch):
    return {**batch, "area": np.zeros_like(batch["area"])}


@functools.cache
def rendering(convention, parts):
    config = make_config(convention).targets
    return jax.jit(lambda k, a, m: render_targets(k, a, m, parts, config))


def rendered(batch, convention="released", parts=PARTS) -> Targets:
    targets = rendering(convention, parts)(batch["keypoints"], batch["area"], batch["region_mask"])
    return jax.tree.map(np.asarray, targets)


def slow_smooth_l1(x, beta):
    return x * x / (2 * beta) if abs(x) < beta else abs(x) - beta / 2


def slow_offset_terms(predicted, target, weights, beta):
    """Numerator and count over every scalar with a weight."""
    total, count = 0.0, 0
    for at in np.argwhere(weights > 0):
        at = tuple(at)
        for axis in range(2):
            error = predicted[at][axis] - target[at][axis]
            total += weights[at] * slow_smooth_l1(error, beta)
            count += 1
    return total, count


def slow_samples(targets, count, convention):
    """For each image and part the owned pixels by falling score, at most `count`."""
    images, height, width, parts = targets.part_heatmaps.shape
    chosen = {}
    for image in range(images):
        for part in range(parts):
            pixels = []
            for y in range(height):
                for x in range(width):
                    weight = targets.offset_weights[image, y, x, part].max()
                    score = targets.part_heatmaps[image, y, x, part]
                    if weight > 0:
                        score = score * weight if convention == "released" else score
                        pixels.append((-score, y * width + x))
            chosen[image, part] = [pixel for _, pixel in sorted(pixels)[:count]]
    return chosen


@pytest.mark.parametrize("beta", [1 / 9, 0.5, 1.0])
def test_smooth_l1(beta):
    edge = np.float32(beta)
    x = np.concatenate([np.linspace(-1, 1, 41), [edge, -edge, 1e4, -1e20]]).astype(np.float32)
    expected = [slow_smooth_l1(v, beta) for v in x.astype(np.float64)]
    np.testing.assert_allclose(smooth_l1(x, beta), expected, rtol=1e-6, atol=1e-12)
    slopes = jax.vmap(jax.grad(lambda v: smooth_l1(v, beta)))(x)
    np.testing.assert_allclose(slopes, np.clip(x / beta, -1, 1), rtol=1e-5, atol=1e-6)


def test_heatmap_loss():
    rng = np.random.default_rng(0)
    predicted, target, mask = rng.random((3, 2, 4, 5, 3)).astype(np.float32)
    expected = sum((mask * (predicted - target) ** 2).ravel()) / predicted.size
    np.testing.assert_allclose(heatmap_loss(predicted, target, mask), expected, rtol=1e-5)


def test_offset_loss():
    targets = rendered(make_batch(1))
    predicted = np.random.default_rng(1).normal(0, 3, targets.offsets.shape).astype(np.float32)
    actual = offset_loss(predicted, targets.offsets, targets.offset_weights, 1 / 9)
    expected = slow_offset_terms(predicted, targets.offsets, targets.offset_weights, 1 / 9)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert expected[1] > 0


@pytest.mark.parametrize("convention", ["released", "paper"])
def test_sample_locations(convention):
    targets = rendered(make_batch(2), convention)
    index, valid = map(np.asarray, sample_locations(targets, 12, convention))
    assert index.shape == valid.shape == (4, len(PARTS), 12)
    for (image, part), expected in slow_samples(targets, 12, convention).items():
        assert valid[image, part].sum() == len(expected)
        assert valid[image, part, : len(expected)].all()
        assert sorted(index[image, part, : len(expected)]) == sorted(expected)
    assert not valid[0].any()


def test_sample_locations_of_the_released_code():
    golden = np.load(GOLDEN / "sampled_locations_coco.npz")
    persons = {
        "keypoints": (golden["keypoints_xyv"] * [4, 4, 1]).astype(np.float32),
        "area": golden["area"].astype(np.float32),
        "region_mask": np.ones((2, 64, 64), bool),
    }
    targets = rendered(persons, parts=skeletons.COCO.parts("part-large"))
    candidates = (targets.offset_weights.max(-1) > 0).sum((1, 2))
    np.testing.assert_array_equal(candidates, golden["candidates_per_image_and_part"])
    index, valid = sample_locations(targets, 40, "released")
    assert valid.all()
    np.testing.assert_array_equal(np.sort(index), np.sort(golden["sampled_index"]))


def test_more_samples_than_pixels():
    targets = jax.tree.map(lambda x: x[:, :3, :4], rendered(make_batch(2)))
    index, valid = sample_locations(targets, 20, "released")
    assert index.shape == valid.shape == (4, len(PARTS), 20)
    assert not valid[..., 12:].any() and (np.asarray(index) < 12).all()


def test_refinement_loss():
    targets = rendered(make_batch(3))
    index, valid = map(np.asarray, sample_locations(targets, 12, "released"))
    assert valid.any() and not valid.all()
    shape = (*index.shape, KEYPOINTS, 2)
    refined = np.random.default_rng(3).normal(0, 3, shape).astype(np.float32)
    total, count = 0.0, 0
    for image, part, sample in np.argwhere(valid):
        y, x = divmod(index[image, part, sample], 16)
        terms = slow_offset_terms(
            refined[image, part, sample],
            targets.offsets[image, y, x, part],
            targets.offset_weights[image, y, x, part],
            1 / 9,
        )
        total, count = total + terms[0], count + terms[1]
    actual = refinement_loss(refined, targets, index, valid, 1 / 9)
    np.testing.assert_allclose(actual, (total, count), rtol=1e-5)
    np.testing.assert_array_equal(
        refinement_loss(refined, targets, index, np.zeros_like(valid), 1 / 9), 0
    )


def init_linear(model=None):
    model = model or LinearModel()
    return model, model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), method="init_all")


@functools.cache
def linear_step(convention="released", offset_weight=0.03):
    """Compiled loss and gradients of the linear model on a whole batch."""
    config = make_config(convention)
    config.losses.offset_weight = offset_weight
    model, variables = init_linear()

    def loss(params, batch):
        return whole_loss(model, params, variables["batch_stats"], batch, config)

    return jax.jit(jax.value_and_grad(loss, has_aux=True)), variables["params"]


def slow_linear_losses(batch, convention):
    """The three weighted losses of the linear model, term by term."""
    config = make_config(convention)
    beta = config.losses.smooth_l1_beta
    model, variables = init_linear()
    maps = model.apply(variables, normalise(batch["image"]))
    maps = jax.tree.map(np.asarray, maps)
    targets = rendered(batch, convention)

    point, size = 0.0, 0
    for name in ("keypoint", "part"):
        error = getattr(maps, f"{name}_heatmaps") - getattr(targets, f"{name}_heatmaps")
        point += (getattr(targets, f"{name}_mask") * error**2).sum()
        size += error.size
    total, count = slow_offset_terms(maps.offsets, targets.offsets, targets.offset_weights, beta)

    delta = variables["params"]["delta"]
    refined_total, refined_count, samples = 0.0, 0, 0
    for (image, part), pixels in slow_samples(targets, 12, convention).items():
        for pixel in pixels:
            y, x = divmod(pixel, 16)
            offset = maps.offsets[image, y, x, part]
            change = maps.features[image, y, x] @ delta["kernel"] + delta["bias"]
            refined = offset + 0.1 * ([x, y] - offset) + change.reshape(KEYPOINTS, 2)
            at = (image, y, x, part)
            terms = slow_offset_terms(
                np.asarray(refined), targets.offsets[at], targets.offset_weights[at], beta
            )
            refined_total, refined_count = refined_total + terms[0], refined_count + terms[1]
            samples += 1
    return {
        "heatmap_loss": point / size,
        "offset_loss": 0.03 * total / count,
        "refinement_loss": 0.03 * refined_total / refined_count,
        "num_samples": samples,
    }


@pytest.mark.parametrize("convention", ["released", "paper"])
def test_whole_loss_matches_slow_reference(convention):
    batch = make_batch(4)
    step, params = linear_step(convention)
    (loss, (metrics, batch_stats)), _ = step(params, batch)
    expected = slow_linear_losses(batch, convention)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-4, err_msg=name)
    total = sum(value for name, value in expected.items() if name != "num_samples")
    np.testing.assert_allclose([loss, metrics["loss"]], total, rtol=2e-4)
    assert all(float(count) == 1 for count in jax.tree.leaves(batch_stats))  # both passes counted


def test_refinement_trains_features_but_not_coordinates():
    (_, (metrics, _)), gradients = linear_step(offset_weight=0.0)[0](
        linear_step()[1], make_batch(4)
    )
    assert metrics["refinement_loss"] > 0
    assert not any(np.any(g) for g in jax.tree.leaves(gradients["heads_2"]))
    assert np.any(gradients["delta"]["kernel"]) and np.any(gradients["stem"]["kernel"])


def test_mean_over_parts_is_the_whole_batch():
    batch, config = make_batch(5), make_config()
    model, variables = init_linear()
    step, params = linear_step()
    halves = [jax.tree.map(lambda x, s=s: x[s], batch) for s in (slice(2), slice(2, None))]

    @jax.jit
    def both(params):
        counted = [count_batch(model, targets_of(model, half, config), config) for half in halves]
        counts = jax.tree.map(lambda *x: sum(x), *counted)
        results = [
            jax.value_and_grad(
                lambda params, half=half: whole_loss(
                    model, params, variables["batch_stats"], half, config, counts
                ),
                has_aux=True,
            )(params)
            for half in halves
        ]
        means = [((loss, metrics), gradients) for (loss, (metrics, _)), gradients in results]
        return counted, jax.tree.map(lambda a, b: (a + b) / 2, *means)

    counted, found = both(params)
    assert counted[0].offset != counted[1].offset  # so that a mean of ratios would be wrong
    (loss, (metrics, _)), gradients = step(params, batch)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, found, ((loss, metrics), gradients))


def test_nobody_costs_nothing():
    step, params = linear_step()
    (loss, (metrics, _)), gradients = step(params, without_persons(make_batch(6)))
    assert np.isfinite(loss) and loss == metrics["heatmap_loss"] > 0
    assert metrics["offset_loss"] == metrics["refinement_loss"] == metrics["num_samples"] == 0
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_without_refinement():
    batch, config = make_batch(4), make_config()
    model, variables = init_linear(LinearModel(refinement=False))
    loss, (metrics, batch_stats) = jax.jit(
        lambda batch: whole_loss(model, *variables_of(variables), batch, config)
    )(batch)
    np.testing.assert_allclose(loss, metrics["heatmap_loss"] + metrics["offset_loss"], rtol=1e-6)
    assert metrics["refinement_loss"] == metrics["num_samples"] == 0
    assert batch_stats["refine"] == 0 and batch_stats["maps"] == 1


def variables_of(variables):
    return variables["params"], variables["batch_stats"]


def test_gather_locations_reads_each_parts_own_channel():
    maps = np.random.default_rng(0).random((2, 3, 4, 2, 5)).astype(np.float32)
    index = np.array([[[0, 11], [5, 6]], [[1, 1], [10, 0]]])
    actual = gather_locations(maps, index)
    for b, s, n in np.ndindex(index.shape):
        y, x = divmod(index[b, s, n], 4)
        np.testing.assert_array_equal(actual[b, s, n], maps[b, y, x, s])


@pytest.mark.slow
def test_the_network_trains_on_crowds_and_on_nobody():
    """One compiled step of a tiny PINet: finite, and every statistic moves once."""
    config = make_config(samples=8)
    config.model.update(
        width=8, stem_width=16, bottlenecks=1, modules=(1, 1, 1), blocks=1, conv_init="he"
    )
    model = network.build(config)
    quick_compile = functools.partial(
        jax.jit, compiler_options={"xla_backend_optimization_level": 0}
    )
    variables = init(model, seed=0)

    @quick_compile
    def step(params, batch_stats, batch):
        return jax.value_and_grad(
            lambda params: whole_loss(model, params, batch_stats, batch, config), has_aux=True
        )(params)

    batch = make_batch(7, images=2, keypoints=17)
    (_, (metrics, stats)), gradients = step(*variables_of(variables), batch)
    assert all(np.isfinite(v) for v in metrics.values()) and metrics["refinement_loss"] > 0
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), stats, variables["batch_stats"])
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    assert all(jax.tree.leaves(moved))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))

    (_, (metrics, stats)), gradients = step(*variables_of(variables), without_persons(batch))
    assert metrics["loss"] == metrics["heatmap_loss"]
    np.testing.assert_array_equal(
        *(jax.tree.leaves(s["refiner"])[0] for s in (stats, variables["batch_stats"]))
    )
    for tree in (stats, gradients):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree))
