"""The programs lower for TPU and CUDA on a machine that has neither."""

import functools

import jax
import jax.numpy as jnp
import pytest

from pinet_jax import methods
from pinet_jax.inference.predict import predict
from pinet_jax.methods.variables import shapes
from pinet_jax.runtime import devices as parallel
from pinet_jax.training import step as training
from tests import devices, tiny
from tests.first_steps import KINDS

pytestmark = pytest.mark.slow

PLATFORMS = ("tpu", "cuda", "cpu")


def shapes_of(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


DEKR = {
    "model.method": "dekr",
    "model.keypoint_channels": 4,
    "eval.suppression": "dekr",
    "eval.pose_fusion": False,
}


@pytest.fixture(scope="module", params=[{}, DEKR], ids=["pinet", "dekr"])
def config(request):
    # As on an accelerator.
    fields = {"dtype": "bfloat16", "bn_sync": True, "train.accumulation": 2}
    return tiny.config(**fields, **request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_train_step(config, kind):
    model, optimizer = methods.of(config).build(config), training.make_optimizer(1e-3)
    variables = shapes(model)
    state = training.TrainState(
        step=jax.ShapeDtypeStruct((), jnp.int32),
        opt_state=jax.eval_shape(optimizer.init, variables["params"]),
        **variables,
    )
    with devices.use(2):
        measure = functools.partial(training.measure, model=model, config=config)
        mapped = parallel.map_step(measure, kind)
        batch = shapes_of(parallel.shard_batch(tiny.batch(images=8), kind))
        traced = jax.jit(mapped).trace(state, batch)
    cpu = check_lowering(traced, "convolution", "all_reduce")
    assert cpu != traced.lower(lowering_platforms=("cuda",)).as_text()  # its own gradients
    found = jax.eval_shape(mapped, state, batch)
    update = functools.partial(training.update, optimizer=optimizer)
    arguments = training.guarded(state), found.gradients, found.batch_stats, found.metrics["finite"]
    check_lowering(jax.jit(update).trace(*arguments), "select")


def test_predict_step(config):
    model = methods.of(config).build(config)
    images = (jax.ShapeDtypeStruct((2, 64, 128, 3), jnp.uint8),)
    to_image = jax.ShapeDtypeStruct((2, 2, 3), jnp.float32)
    step = functools.partial(predict, model, config=config)
    traced = jax.jit(lambda *arguments: step(*arguments)).trace(shapes(model), images, to_image)
    check_lowering(traced, "convolution")


def check_lowering(traced, *operations):
    """Accelerators get the same operations, CPUs their own; nothing chooses as it runs."""
    texts = [traced.lower(lowering_platforms=(platform,)).as_text() for platform in PLATFORMS]
    assert texts[0] == texts[1]
    for text in texts:
        for name in operations:
            assert f"stablehlo.{name}" in text
        assert "custom_call" not in text  # these are of one platform
        assert "stablehlo.case" not in text
    return texts[2]
