"""1, 2, 4 and 8 devices, by pmap and by shard_map, in parts or at once: the same training."""

import functools
import json

import jax
import numpy as np
import pytest

from pinet_jax.backbones.hrnet import normalise
from pinet_jax.config import with_fields
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import losses
from pinet_jax.methods.pinet import network as pinet
from pinet_jax.methods.pinet.targets import render_targets
from pinet_jax.runtime import devices as parallel
from pinet_jax.training import step as training
from tests import devices, programs, runs, tiny
from tests.first_steps import (
    IMAGES,
    KINDS,
    LEARNING_RATE,
    fresh_state,
    make_config,
    network,
    optimizer,
    train,
)

pytestmark = pytest.mark.slow


def assert_same_metrics(found, wanted):
    for metrics, want in zip(found, wanted, strict=True):
        assert metrics.keys() == want.keys() and want["refinement_loss"] > 0
        for name in want:
            np.testing.assert_allclose(metrics[name], want[name], rtol=1e-5, err_msg=name)


def assert_same_training(found, wanted):
    assert_same_metrics(found[1], wanted[1])
    assert found[0].step == wanted[0].step
    for name in ("params", "batch_stats"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            getattr(found[0], name),
            getattr(wanted[0], name),
        )


@pytest.mark.parametrize(
    ("count", "kind"),
    [(2, "pmap"), (4, "pmap"), (1, "shard_map"), (2, "shard_map"), (4, "shard_map")],
)
def test_any_number_of_devices_trains_as_one(count, kind):
    assert_same_training(train(count, kind), train(1, "pmap"))


def test_eight_devices_train_as_one():
    """In a process of their own: every other test would be slower for having so many."""
    found = json.loads(programs.output_of("-m", "tests.first_steps", "8"))
    for kind in KINDS:
        assert_same_metrics(found[kind], train(1, "pmap")[1])


def test_every_batch_normalisation_of_the_whole_network_is_synchronised():
    config = with_fields(make_config(), tiny.RELEASABLE)
    model = pinet.build(config)
    variables = tiny.random_variables(model)

    def updated_statistics(stats, batch):
        images = normalise(batch["image"])
        _, updated = model.apply(
            {**variables, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
        )
        return updated["batch_stats"]["backbone"]

    found = []
    for count in (1, 2):
        with devices.use(count):
            stats = parallel.replicate(variables["batch_stats"], config.parallel)
            batch = parallel.shard_batch({"image": tiny.batch()["image"]}, config.parallel)
            mapped = parallel.map_step(updated_statistics, config.parallel)
            found.append(jax.device_get(mapped(stats, batch)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b),
        found[0],
        variables["batch_stats"]["backbone"],
    )
    assert all(jax.tree.leaves(moved))


def shares_of(batch, count):
    return [{name: np.split(x, count)[i] for name, x in batch.items()} for i in range(count)]


def slow_step(state, batch, count):
    """A step with statistics a device: the shares one after the other, their sums at the end."""
    config = make_config(bn_sync=False)
    model, beta = network(config), config.losses.smooth_l1_beta

    def forward(params, share):
        variables = {"params": params, "batch_stats": state.batch_stats}
        persons = share["keypoints"], share["area"], share["region_mask"]
        targets = render_targets(*persons, model.parts, config.targets)
        images = normalise(share["image"])
        maps, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
        index, valid = losses.sample_locations(targets, 20, "released")
        refined, updated = losses._refined_offsets(model, params, updated, maps, index, valid)
        return (
            losses._all_heatmaps_loss(maps, targets),
            losses.offset_loss(maps.offsets, targets.offsets, targets.offset_weights, beta),
            losses.refinement_loss(refined, targets, index, valid, beta),
            updated["batch_stats"],
        )

    @jax.jit
    def whole(params):
        heatmap, offset, refinement, stats = zip(
            *(forward(params, share) for share in shares_of(batch, count)), strict=True
        )
        ratios = [sum(n for n, _ in terms) / sum(d for _, d in terms)
                  for terms in (offset, refinement)]  # fmt: skip
        loss = sum(heatmap) / count + 0.03 * ratios[0] + 0.03 * ratios[1]
        return loss, jax.tree.map(lambda *x: sum(x) / count, *stats)

    (loss, stats), gradients = jax.value_and_grad(whole, has_aux=True)(state.params)
    params = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, state.params, gradients)
    return loss, params, stats


@pytest.mark.parametrize(("count", "kind"), [(2, "pmap"), (4, "shard_map")])
def test_statistics_a_device(count, kind):
    state, (metrics,) = train(count, kind, bn_sync=False)
    loss, params, stats = slow_step(fresh_state(), tiny.batch(0, images=IMAGES), count)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(compare, state.params, params)
    jax.tree.map(compare, state.batch_stats, stats)
    synced = train(1, "pmap")[1][0]
    assert abs(metrics["loss"] / synced["loss"] - 1) > 1e-4  # they do differ


# ---- Accumulation


@pytest.mark.parametrize("kind", KINDS)
def test_parts_one_after_the_other_train_as_so_many_devices(kind):
    """Statistics are of a part; loss ratios, gradients and all else are the whole batch's."""
    found, wanted = train(2, kind, False, 2), train(4, kind, False)
    assert_same_training(found, wanted)
    assert abs(found[1][0]["loss"] / train(2, kind, False)[1][0]["loss"] - 1) > 1e-4


def test_parts_of_synchronised_devices():
    """The first halves of two devices' shares have one statistic, their second halves another."""
    order = np.array([0, 1, 4, 5, 2, 3, 6, 7])
    whole = tiny.batch(0, images=IMAGES)
    config = make_config(bn_sync=True, accumulation=2)
    with devices.use(2):
        step = training.TrainStep(network(config), optimizer(), config)
        shares = parallel.shard_batch({k: x[order] for k, x in whole.items()}, "pmap")
        state = parallel.replicate(training.guarded(fresh_state()), config.parallel)
        state, metrics = step(state, shares)
    assert_same_training(jax.device_get((state.train, [metrics])), train(2, "pmap", False))


def temporary_bytes(accumulation):
    """Memory that the compiled step needs besides the state and the batch."""
    config = make_config(accumulation=accumulation)
    with devices.use(1):
        step = training.TrainStep(network(config), optimizer(), config)
        batch = parallel.shard_batch(tiny.batch(images=IMAGES), config.parallel)
        state = parallel.replicate(fresh_state(), config.parallel)
        compiled = step.measure.lower(state, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_more_parts_take_less_memory():
    whole, quarters = temporary_bytes(1), temporary_bytes(4)
    assert quarters < 0.5 * whole


# ---- Layouts and sizes


def test_each_device_gets_its_share():
    batch = {"x": np.arange(8).reshape(8, 1)}
    with devices.use(4):
        by_pmap = parallel.shard_batch(batch, "pmap")["x"]
        by_mesh = parallel.shard_batch(batch, "shard_map")["x"]
    assert by_pmap.shape == (4, 2, 1) and by_mesh.shape == (8, 1)
    for array in (by_pmap, by_mesh):
        held = [np.asarray(shard.data).ravel().tolist() for shard in array.addressable_shards]
        assert held == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(
    ("batch_size", "words"), [(6, "use 4 or 8"), (3, "use 4"), (41, "40 or 44")]
)
def test_a_batch_that_devices_cannot_share(batch_size, words, tmp_path):
    with devices.use(4):
        for fits in (4, 40):
            parallel.check_batch_size(fits, accumulation=1)
        config = tiny.config(**{"train.batch_size": batch_size})
        with pytest.raises(
            UserError, match=rf"train.batch_size: {batch_size} .*4 devices; .*{words}"
        ):
            runs.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_parts_cannot_share():
    with devices.use(2):
        parallel.check_batch_size(12, accumulation=3)
        with pytest.raises(UserError, match=r"8 images .*2 devices of 3 parts each .*use 6 or 12"):
            parallel.check_batch_size(8, accumulation=3)
        with pytest.raises(UserError, match=r"config\.train\.accumulation is 0: give at least 1"):
            parallel.check_batch_size(8, accumulation=0)
