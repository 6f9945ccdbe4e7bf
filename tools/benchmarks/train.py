"""The training step: its parts, dtypes and batch sizes."""

from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.runtime import devices, memory
from pinet_jax.training import step as training
from tools.benchmarks import crowds, targets, timing

BATCHES = (1, 4, 8, 16, 32, 64)  # up to config.train.batch_size
DTYPES = ("float32", "bfloat16")


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """The step beside its targets; then dtypes and batch sizes."""
    size, persons = config.train.input_size, config.dataset.max_persons
    images = config.train.batch_size
    rendering = targets.renderer(config, images, persons, size, "targets alone")
    measured = timing.measure([step(config, images, "step"), rendering], rounds)
    work = f"training of batch {images} at {size}, width {config.model.width}"
    yield timing.table(f"{work}, {config.dtype}", measured, config.dtype, "step")
    for dtype in DTYPES:
        variants = [step(config, n, f"batch {n}", dtype) for n in BATCHES if n <= images]
        measured = timing.measure(variants, rounds)
        yield timing.table(f"training at {size}, {dtype}", measured, dtype)


def step(config: ConfigDict, images: int, name: str, dtype: str | None = None) -> timing.Variant:
    """One training step over all devices, its state donated from run to run."""
    config = config.copy_and_resolve_references()
    config.dtype = dtype or config.dtype
    model = methods.of(config).build(config)
    optimizer = training.make_optimizer(lambda count: config.train.learning_rate)
    weights = crowds.variables(model)
    state = training.TrainState(
        step=np.zeros((), np.int32),
        params=weights["params"],
        batch_stats=weights["batch_stats"],
        opt_state=optimizer.init(weights["params"]),
    )
    batch = crowds.batch(
        np.random.default_rng(0),
        images,
        config.dataset.max_persons,
        skeletons.of(config).num_keypoints,
        config.train.input_size,
        HEATMAP_STRIDE,
    )
    state, batch = (
        devices.replicate(training.guarded(state), config.parallel),
        devices.shard_batch(batch, config.parallel),
    )
    train_step = training.TrainStep(model, optimizer, config)
    train_step.prepare(state, batch)
    memory.fill_holes()
    measure, update = train_step.measure.run, train_step.update.run
    holder = [state]

    def run():
        holder[0], metrics = train_step(holder[0], batch)
        jax.block_until_ready((holder[0], metrics))

    flops = [timing.flops_of(program) for program in (measure, update)]
    moments = sum(leaf.nbytes for leaf in jax.tree.leaves(holder[0].train.opt_state))
    needed = [timing.memory_of(measure), moments]  # which wait beside it
    counts = (None if None in parts else sum(parts) for parts in (flops, needed))
    return timing.Variant(name, run, images, *counts)
