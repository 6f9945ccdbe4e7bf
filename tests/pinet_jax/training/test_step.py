"""The training step: the released one's numbers, falling losses, schedules."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from pinet_jax.methods import pinet
from pinet_jax.methods.pinet import network
from pinet_jax.methods.pinet.losses import sample_locations, train_loss
from pinet_jax.methods.pinet.targets import render_targets
from pinet_jax.runtime import devices as parallel
from pinet_jax.training import step as training
from pinet_jax.weights import convert
from tests import compiled, devices, tiny
from tests.paths import GOLDEN

pytestmark = pytest.mark.slow

# ---- One step of the released network


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "train_step_coco.npz")


@pytest.fixture(scope="module")
def golden_step(released, golden):
    """Sampled locations, metrics, new batch statistics and gradients' norms."""
    config, model, variables = released
    keypoints, area = (
        np.stack([golden[f"{name}_{i}"] for i in (0, 1)]).astype(np.float32)
        for name in ("keypoints_xyv", "area")
    )
    keypoints *= np.array([4, 4, 1], np.float32)  # they are in heatmap pixels

    def step(variables, images, keypoints, area):
        everywhere = jnp.ones((2, 64, 64), bool)
        targets = render_targets(keypoints, area, everywhere, model.parts, config.targets)
        samples = sample_locations(targets, 40, config.targets.convention)
        gradients, (metrics, stats) = jax.grad(
            lambda params: train_loss(
                model, params, variables["batch_stats"], images, targets, config
            ),
            has_aux=True,
        )(variables["params"])
        norms = jax.tree.map(lambda x: jnp.sqrt(jnp.sum(x**2)), gradients)
        return samples, metrics, stats, norms

    arguments = variables, golden["images_nhwc"], keypoints, area
    return compiled.run_once(step, *arguments, many_loops=True)


def test_golden_samples(golden, golden_step):
    index, valid = golden_step[0]
    assert valid.all()
    for image in range(2):
        assert sorted(index[image].ravel()) == sorted(golden["sampled_index"][image])


def test_golden_losses(golden, golden_step):
    metrics = golden_step[1]
    names = {"heatmap_loss": "heatmap_loss", "offset_loss": "offset_loss"}
    for ours, theirs in (names | {"refinement_loss": "refine_loss"}).items():
        np.testing.assert_allclose(metrics[ours], golden[theirs], rtol=1e-5, err_msg=ours)


def test_golden_batch_statistics(released, golden, golden_step):
    updated = convert.to_torch({**released[2], "batch_stats": golden_step[2]})
    names = [name for name in golden if name.startswith("after/")]
    assert len(names) == 5
    for name in names:
        atol = 1e-4 * np.abs(golden[name]).max()
        found = updated[name.removeprefix("after/")]
        np.testing.assert_allclose(found, golden[name], rtol=0, atol=atol, err_msg=name)


def gradient_tolerance(name):
    """Relative: float32 flips switches of ReLU and max, the deeper the more."""
    return {"ppg": 1e-5, "pr": 3e-3, "backbone": 2e-2}[name.split(".")[0]]


def is_noise(name):
    """A bias before a batch normalisation has no effect, and no gradient."""
    return name == "pr.gconv_pred.0.bias" or (
        name.startswith("pr.gconv_") and name.endswith(".conv.bias")
    )


def test_golden_gradient_norms(golden, golden_step):
    norms = {
        convert.released_name(("params", *path), pinet.released): norm
        for path, norm in traverse_util.flatten_dict(golden_step[3]).items()
    }
    wanted = dict(zip(golden["grad_norm_names"].tolist(), golden["grad_norms"], strict=True))
    assert set(norms) == set(wanted) and len(norms) == 948
    assert sum(map(is_noise, wanted)) == 6
    for name, want in wanted.items():
        if is_noise(name):
            assert abs(norms[name] - want) < 1e-9, name
        else:
            assert norms[name] == pytest.approx(want, rel=gradient_tolerance(name)), name


# ---- Many steps of the tiny network


@contextlib.contextmanager
def counted_compilations():
    """The list grows by one for every program that XLA compiles."""
    compilations = []

    def listener(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            compilations.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


class Trainer:
    """A compiled step of the tiny network on one device, from any state."""

    def __init__(self):
        self.config = tiny.config()
        self.model = network.build(self.config)
        # As training.loop does, so that the end-to-end tests find the program compiled.
        steps_per_epoch = self.config.synthcrowd.num_train / self.config.train.batch_size
        schedule = training.learning_rate(self.config, steps_per_epoch)
        self.optimizer = training.make_optimizer(schedule)
        self.step = training.TrainStep(self.model, self.optimizer, self.config)

    def fresh_state(self, seed=0):
        return jax.device_get(training.create_state(self.model, self.optimizer, seed))

    def run(self, state, batch, steps):
        """The last state and every step's metrics."""
        state = parallel.replicate(training.guarded(state), self.config.parallel)
        history = []
        for _ in range(steps):
            state, metrics = self.step(state, parallel.shard_batch(batch, self.config.parallel))
            history.append(jax.device_get(metrics))
        return jax.device_get(state.train), history


@pytest.fixture(scope="module")
def trainer():
    with devices.use(1):
        yield Trainer()


@pytest.fixture(scope="module")
def start(trainer):
    return trainer.fresh_state()


@pytest.fixture(scope="module")
def first_steps(trainer, start):
    """Twenty steps on one batch, and how many compilations the first and the others took."""
    with counted_compilations() as compilations:
        state, history = trainer.run(start, tiny.batch(), 1)
        first = len(compilations)
        state, rest = trainer.run(state, tiny.batch(), 19)
    return state, history + rest, (first, len(compilations) - first)


def test_the_step_compiles_once(first_steps):
    first, later = first_steps[2]
    assert first > 0 and later == 0


def test_the_losses_fall_on_one_batch(first_steps):
    _, history, _ = first_steps
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    for name in ("heatmap_loss", "offset_loss", "refinement_loss"):
        assert history[-1][name] < history[0][name]
    parts = ("heatmap_loss", "offset_loss", "refinement_loss")
    for metrics in history:
        assert metrics["loss"] == pytest.approx(sum(metrics[name] for name in parts), rel=1e-5)
        assert metrics["num_samples"] > 0 and metrics["gradient_norm"] > 0


def test_everything_that_is_trained_moves(start, first_steps):
    state = first_steps[0]
    assert state.step == 20
    for before, after in ((start.params, state.params), (start.batch_stats, state.batch_stats)):
        moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
        assert all(jax.tree.leaves(moved)), moved


def test_the_same_seed_trains_the_same_network(trainer, start, first_steps):
    again = trainer.fresh_state()
    jax.tree.map(np.testing.assert_array_equal, again, start)
    _, history = trainer.run(again, tiny.batch(), 3)
    assert history == first_steps[1][:3]


def test_fresh_moments_are_the_optimizers(trainer, start):
    wanted = trainer.optimizer.init(start.params)
    assert jax.tree.structure(start.opt_state) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, start.opt_state, wanted)


def test_a_batch_without_people(trainer, start):
    batch = tiny.batch()
    batch["area"][:] = 0
    state, (metrics,) = trainer.run(start, batch, 1)
    assert metrics["num_samples"] == metrics["offset_loss"] == metrics["refinement_loss"] == 0
    assert metrics["loss"] == metrics["heatmap_loss"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    jax.tree.map(
        np.testing.assert_array_equal,
        state.batch_stats["refiner"],
        start.batch_stats["refiner"],
    )


# ---- Schedules, against figures worked out by hand


def schedule(steps_per_epoch=10, **fields):
    config = tiny.config(**{f"train.{name}": value for name, value in fields.items()})
    return training.learning_rate(config, steps_per_epoch)


def test_step_schedule():
    rate = schedule(steps_per_epoch=12.5, epochs=140.0)
    wanted = {0: 1e-3, 1124: 1e-3, 1125: 1e-4, 1499: 1e-4, 1500: 1e-5, 1749: 1e-5}
    for step, want in wanted.items():
        assert rate(step) == pytest.approx(want, rel=1e-5), step


def test_the_drop_is_the_configs():
    rate = schedule(epochs=4.0, drop_epochs=(1.0, 2.0), drop_factor=0.5)
    for step, want in {9: 1e-3, 10: 5e-4, 20: 2.5e-4}.items():
        assert rate(step) == pytest.approx(want, rel=1e-5), step


def test_cosine_schedule():
    rate = schedule(schedule="cosine", epochs=4.0, learning_rate=2e-3)
    wanted = {0: 2e-3, 10: 1e-3 * (1 + np.sqrt(0.5)), 20: 1e-3, 30: 1e-3 * (1 - np.sqrt(0.5))}
    for step, want in (wanted | {40: 0.0}).items():
        assert rate(step) == pytest.approx(want, rel=1e-5, abs=1e-10), step


def test_warmup():
    rate = schedule(warmup_steps=50, epochs=140.0)
    wanted = {0: 2e-5, 24: 5e-4, 49: 1e-3, 50: 1e-3, 899: 1e-3, 900: 1e-4}
    for step, want in wanted.items():
        assert rate(step) == pytest.approx(want, rel=1e-5), step


@pytest.mark.parametrize(
    ("epochs", "steps_per_epoch", "steps"), [(140.0, 12.5, 1750), (0.5, 3, 2), (0.001, 10, 1)]
)
def test_total_steps(epochs, steps_per_epoch, steps):
    config = tiny.config(**{"train.epochs": epochs})
    assert training.total_steps(config, steps_per_epoch) == steps
