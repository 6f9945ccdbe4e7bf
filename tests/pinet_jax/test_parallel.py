"""1, 2 and 4 devices, by pmap and by shard_map: the same training."""

import functools

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from pinet_jax import losses, parallel, train_loop, training
from pinet_jax.errors import UserError
from pinet_jax.models import pinet
from pinet_jax.models.layers import BatchNorm, Conv
from pinet_jax.preprocess import normalise
from pinet_jax.targets import render_targets
from tests import devices, tiny

STEPS = 3
LEARNING_RATE = 0.01


class SmallBackbone(nn.Module):
    """Two convolutions and batch normalisations: HRNet's operations, quickly compiled."""

    axis_name: str | None

    @nn.compact
    def __call__(self, images, train=False):
        x = images
        for i in range(2):
            x = nn.relu(BatchNorm(self.axis_name)(Conv(8, stride=2, name=f"conv{i}")(x), train))
        return x


def network(config):
    axis_name = parallel.AXIS if config.bn_sync else None
    return pinet.build(config).clone(backbone=SmallBackbone(axis_name))


def make_config(kind="pmap", bn_sync=True):
    return tiny.config(**{"parallel": kind, "bn_sync": bn_sync, "model.graph_layers": 1})


def optimizer():
    # Not Adam: it would blow the noise in gradients that are nothing up to whole steps.
    return optax.sgd(LEARNING_RATE)


@functools.cache
def fresh_state():
    variables = tiny.random_variables(network(make_config()))
    moments = optimizer().init(variables["params"])
    return training.TrainState(step=np.int32(0), opt_state=moments, **variables)


@functools.cache
def train(count, kind, bn_sync=True):
    """The last state and every step's metrics."""
    config = make_config(kind, bn_sync)
    steps = STEPS if bn_sync else 1
    with devices.use(count):
        step = training.make_train_step(network(config), optimizer(), config)
        state = parallel.replicate(fresh_state())
        history = []
        for i in range(steps):
            batch = parallel.shard_batch(tiny.batch(i, images=8), kind)
            state, metrics = step(state, batch)
            history.append(jax.device_get(metrics))
    return jax.device_get(state), history


def assert_same_training(found, wanted):
    for metrics, want in zip(found[1], wanted[1], strict=True):
        assert metrics.keys() == want.keys() and want["refinement_loss"] > 0
        for name in want:
            np.testing.assert_allclose(metrics[name], want[name], rtol=1e-5, err_msg=name)
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


def test_every_batch_normalisation_of_the_whole_network_is_synchronised():
    config = make_config()
    model = pinet.build(config)
    variables = tiny.random_variables(model)

    def step(stats, batch):
        images = normalise(batch["image"])
        _, updated = model.apply(
            {**variables, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
        )
        return {**stats, "backbone": updated["batch_stats"]["backbone"]}, {}

    found = []
    for count in (1, 2):
        with devices.use(count):
            stats = parallel.replicate(variables["batch_stats"])
            batch = parallel.shard_batch({"image": tiny.batch()["image"]}, config.parallel)
            found.append(jax.device_get(parallel.map_step(step, config.parallel)(stats, batch)[0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *found)
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b),
        found[0]["backbone"],
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
    loss, params, stats = slow_step(fresh_state(), tiny.batch(0, images=8), count)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(compare, state.params, params)
    jax.tree.map(compare, state.batch_stats, stats)
    synced = train(1, "pmap")[1][0]
    assert abs(metrics["loss"] / synced["loss"] - 1) > 1e-4  # they do differ


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
            parallel.check_batch_size(fits)
        config = tiny.config(**{"train.batch_size": batch_size})
        with pytest.raises(
            UserError, match=rf"train.batch_size: {batch_size} .*4 devices; .*{words}"
        ):
            train_loop.train(config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_unknown_kind():
    with pytest.raises(UserError, match=r"config\.parallel: 'jit' is neither pmap nor shard_map"):
        parallel.map_step(lambda state, batch: (state, {}), "jit")
