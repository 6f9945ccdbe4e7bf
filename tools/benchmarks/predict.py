"""Prediction: against plain forward passes, as images, batches and scales grow."""

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.backbones.hrnet import normalise
from pinet_jax.inference import predict as prediction
from tools.benchmarks import crowds, timing

BATCHES = (1, 4)
GROWTH = (1, 4, 8, 16, 32, 64)  # batches, up to config.eval.batch_size
SIZES = (256, 512, 1024)
DTYPES = ("float32", "bfloat16")


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """Flip test, refinement and fusion against one forward pass; then what makes it grow."""
    size = config.eval.input_size
    for images in BATCHES:
        variants = [forward(config, images, size), predict(config, images, size, "predict, flip")]
        variants.append(predict(config, images, size, "predict", **{"eval.flip": False}))
        scales = {"eval.scales": (0.5, 1.0, 2.0)}
        variants.append(predict(config, images, size, "three scales, flip", **scales))
        measured = timing.measure(variants, rounds)
        work = f"prediction of batch {images} at {size}, width {config.model.width}"
        yield timing.table(f"{work}, {config.dtype}", measured, config.dtype, "forward")
    by_size = [predict(config, 1, s, f"{s} pixels") for s in SIZES]
    yield timing.table("prediction, one image", timing.measure(by_size, rounds), config.dtype)
    batches = [n for n in GROWTH if n <= config.eval.batch_size]
    by_batch = [predict(config, n, size, f"batch {n}") for n in batches]
    yield timing.table(f"prediction at {size}", timing.measure(by_batch, rounds), config.dtype)
    by_dtype = [predict(config, 1, size, d, dtype=d) for d in DTYPES]
    yield timing.table("prediction, one image", timing.measure(by_dtype, rounds), config.dtype)


def forward(config: ConfigDict, images: int, size: int) -> timing.Variant:
    """Backbone and heads alone, once."""
    model = methods.of(config).build(config)
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)

    def run(variables, pixels):
        return model.apply(variables, normalise(pixels), train=False)

    return timing.program("forward pass", run, crowds.variables(model), pixels, items=images)


def predict(
    config: ConfigDict, images: int, size: int, name: str, **overrides: object
) -> timing.Variant:
    """The whole prediction; `overrides` are dotted fields of the config."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(overrides)
    model = methods.of(config).build(config)
    rng = np.random.default_rng(0)
    pixels = tuple(
        rng.integers(0, 256, (images, int(size * s), int(size * s), 3), np.uint8)
        for s in config.eval.scales
    )
    to_image = np.broadcast_to(np.eye(2, 3, dtype=np.float32), (images, 2, 3))

    def run(variables, pixels, to_image):
        return prediction.predict_here(model, variables, pixels, to_image, config)

    def without_loops(variables, pixels, to_image):
        return prediction.predict(model, variables, pixels, to_image, config)

    work = (crowds.variables(model), pixels, to_image)
    return timing.program(name, run, *work, items=images, without_loops=without_loops)
