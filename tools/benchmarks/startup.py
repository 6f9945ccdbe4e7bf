"""Tracing and compiling: what a first start costs, and one with a warm cache."""

import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.config import with_fields
from pinet_jax.inference.predict import predict
from pinet_jax.methods.variables import init
from pinet_jax.runtime.tables import aligned
from pinet_jax.training import step as training
from tools.benchmarks import crowds


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """Seconds of each stage, measured once: a compilation repeats itself closely."""
    del rounds
    rows = [("", "trace s", "compile s", "cached s", "HLO lines")]
    before = jax.config.jax_compilation_cache_dir
    for name, make in (("train step", _train_step), ("prediction", _prediction)):
        with tempfile.TemporaryDirectory() as folder:
            _use_cache(folder)
            rows.append((name, *_stages(lambda make=make: make(config))))
    _use_cache(before)
    yield f"start-up, width {config.model.width}, {config.dtype}\n{aligned(rows)}\n"


def _stages(lower: Callable[[], jax.stages.Lowered]) -> tuple[str, ...]:
    start = time.perf_counter()
    lowered = lower()
    traced = time.perf_counter()
    lowered.compile()
    compiled = time.perf_counter()
    jax.clear_caches()
    again = lower()
    ready = time.perf_counter()
    again.compile()
    cached = time.perf_counter() - ready
    size = lowered.as_text().count("\n")
    seconds = (traced - start, compiled - traced, cached)
    return *(f"{stage:.1f}" for stage in seconds), f"{size:,}"


def _use_cache(folder: str | None) -> None:
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()


def _train_step(config: ConfigDict) -> jax.stages.Lowered:
    model = methods.of(config).build(config)
    optimizer = training.make_optimizer(lambda count: config.train.learning_rate)
    state = jax.eval_shape(
        lambda: training.guarded(training.create_state(model, optimizer, config.seed))
    )
    size, images = config.train.input_size, config.train.batch_size
    keypoints = skeletons.of(config).num_keypoints
    batch = crowds.batch(np.random.default_rng(0), images, 1, keypoints, size, HEATMAP_STRIDE)
    shapes = {key: jax.ShapeDtypeStruct(x.shape, x.dtype) for key, x in batch.items()}
    config = with_fields(config, {"parallel": "shard_map"})  # which takes shapes as they are
    return training.make_train_step(model, optimizer, config).lower(state, shapes)


def _prediction(config: ConfigDict) -> jax.stages.Lowered:
    model = methods.of(config).build(config)
    size = config.eval.input_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    to_image = jax.ShapeDtypeStruct((1, 2, 3), np.float32)
    variables = jax.eval_shape(lambda: init(model, config.seed))

    def run(variables, images, to_image):
        return predict(model, variables, images, to_image, config)

    return jax.jit(run).lower(variables, (image,) * len(config.eval.scales), to_image)
