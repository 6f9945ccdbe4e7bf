"""CID's losses against loops, and a batch divided into parts."""

import functools
import math

import flax.linen as nn
import jax
import numpy as np
import pytest

from pinet_jax.backbones.hrnet import normalise
from pinet_jax.backbones.layers import BatchNorm
from pinet_jax.methods.cid import losses, network, targets
from pinet_jax.methods.randomness import image_keys
from pinet_jax.methods.variables import init
from tests import tiny


class PatchBackbone(nn.Module):
    """Stands in for HRNet where only what follows is looked at; without batch statistics."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(8, (4, 4), (4, 4), padding="VALID")(images)
        # Running statistics alone, so that parts of a batch add up.
        return nn.relu(BatchNorm()(x, False))


@functools.cache
def patch_network(**fields):
    """Config, network on PatchBackbone, random variables."""
    config = tiny.config(**{"model.method": "cid", **fields})
    model = network.build(config).clone(backbone=PatchBackbone())
    return config, model, tiny.random_variables(model)


def make_batch(seed=0, **shape):
    batch = tiny.batch(seed, **shape)
    return batch | {"key": image_keys(0, 0, np.arange(len(batch["image"])))}


@pytest.mark.parametrize(("alpha", "beta"), [(2, 4), (1, 3)])
def test_focal_loss(alpha, beta):
    rng = np.random.default_rng(0)
    predicted, target = rng.uniform(0.01, 0.99, (2, 40))
    target[::5] = 1
    mask = rng.random(40) > 0.3
    want = 0.0
    for p, t, m in zip(predicted, target, mask, strict=True):
        if m and t == 1:
            want -= math.log(p) * (1 - p) ** alpha
        elif m:
            want -= math.log(1 - p) * p**alpha * (1 - t) ** beta
    found = losses.focal_loss(*np.float32([predicted, target]), mask, alpha, beta)
    assert found == pytest.approx(want, rel=1e-5)


def slow_contrastive(vectors, image, valid, temperature):
    def cosine(i, j):
        lengths = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])
        return vectors[i] @ vectors[j] / lengths

    total = 0.0
    for i in np.flatnonzero(valid):
        others = np.flatnonzero(valid & (image == image[i]))
        likeness = np.exp([cosine(i, j) / temperature for j in others])
        total -= np.log(np.exp(1 / temperature) / likeness.sum())
    return total


def test_contrastive_loss():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(9, 6)) + 1.5  # alike enough
    vectors[4] = 0  # nobody's
    image = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
    valid = np.array([1, 1, 1, 1, 0, 1, 1, 1, 0], bool)
    loss = functools.partial(losses.contrastive_loss, image=image, valid=valid, temperature=0.05)
    found, gradient = jax.value_and_grad(loss)(vectors.astype(np.float32))
    assert found == pytest.approx(slow_contrastive(vectors, image, valid, 0.05), rel=1e-4)
    assert np.isfinite(gradient).all() and not gradient[~valid].any()
    assert np.any(gradient[0])  # image 2 has one instance, which nothing is told apart from
    assert not np.any(gradient[7])


def step_of(**fields):
    """The loss, its metrics and the gradients of a batch, jitted."""
    config, model, variables = patch_network(**fields)

    @jax.jit
    def step(batch, counts=None):
        found = targets.targets_of(model, batch, config)

        def loss(params):
            images = normalise(batch["image"])
            return losses.train_loss(
                model, params, variables["batch_stats"], images, found, config, counts
            )

        (value, (metrics, _)), gradients = jax.value_and_grad(loss, has_aux=True)(
            variables["params"]
        )
        return value, metrics, gradients

    return step


@pytest.mark.slow
def test_mean_over_parts_is_the_whole_batch():
    config, model, _ = patch_network()
    batch, step = make_batch(5), step_of()
    halves = [jax.tree.map(lambda x, s=s: x[s], batch) for s in (slice(2), slice(2, None))]
    counted = [
        losses.count_batch(model, targets.targets_of(model, half, config), config)
        for half in halves
    ]
    assert counted[0].instances != counted[1].instances  # or a mean of ratios would do
    counts = jax.tree.map(lambda a, b: a + b, *counted)
    parts = [step(half, counts) for half in halves]
    found = jax.tree.map(lambda a, b: (a + b) / 2, *parts)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, found, step(batch))


def test_the_terms_have_their_weights():
    plain = {"losses.instance_weight": 1.0, "losses.contrastive_weight": 0.5}
    batch = make_batch(2)
    (loss, terms, _), (_, other, _) = step_of()(batch), step_of(**plain)(batch)
    names = ("heatmap_loss", "instance_loss", "contrastive_loss")
    assert loss == pytest.approx(sum(float(terms[name]) for name in names), rel=1e-6)
    for name, factor in zip(names, (1, 4, 2), strict=True):
        assert terms[name] == pytest.approx(factor * float(other[name]), rel=1e-5), name
        assert terms[name] > 0


def test_nobody_costs_the_heatmaps_of_everybody_alone():
    batch = make_batch(3)
    batch["area"][:] = 0
    loss, metrics, gradients = step_of()(batch)
    assert np.isfinite(loss) and loss == metrics["heatmap_loss"] > 0
    assert metrics["instance_loss"] == metrics["contrastive_loss"] == metrics["num_instances"] == 0
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_what_an_instance_is_asked_for_trains_the_backbone():
    _, _, gradients = step_of(**{"losses.instance_weight": 0.0})(make_batch(4))
    assert not any(np.any(g) for g in jax.tree.leaves(gradients["gfd"]))
    assert any(np.any(g) for g in jax.tree.leaves(gradients["backbone"]))
    _, _, gradients = step_of()(make_batch(4))
    assert all(np.any(g) for g in jax.tree.leaves(gradients["gfd"]))


def test_first_scores_are_low_everywhere():
    config = tiny.config(**{"model.method": "cid"})
    params = init(network.build(config), seed=0)["params"]
    for head in (params["iia"]["heatmaps"], params["gfd"]["heatmaps"]):
        np.testing.assert_allclose(head["conv"]["bias"], -math.log(99), rtol=1e-6)
        assert np.std(head["conv"]["kernel"]) == pytest.approx(0.001, rel=0.2)
