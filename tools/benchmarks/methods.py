"""Prediction by every method side by side, against a forward pass of the backbone alone."""

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.backbones import hrnet
from pinet_jax.config import load_config, shipped, with_fields
from tools.benchmarks import crowds, predict, timing

IMAGES = 1
SAME = ("dtype", "model.width", "model.stem_width", "model.bottlenecks", "model.modules")
SAME += ("model.blocks", "eval.input_size", "eval.flip", "eval.max_peaks", "eval.peak_threshold")


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """With the backbone and the test size of the config.

    Random weights make as many people as there is room for in every image.
    """
    size = config.eval.input_size
    variants = [backbone(config, IMAGES, size)]
    variants += [
        predict.predict(of_method(name, config), IMAGES, size, name) for name in methods.NAMES
    ]
    work = f"prediction at {size}, HRNet-W{config.model.width}, {config.dtype}"
    flip = "flip test" if config.eval.flip else "no flip test"
    measured = timing.measure(variants, rounds)
    yield timing.table(f"{work}, {flip}", measured, config.dtype, "backbone")


def of_method(name: str, config: ConfigDict) -> ConfigDict:
    """A shipped config of the method called `name`, with what is compared as in `config`."""
    known = [load_config(shipped_name) for shipped_name in shipped()]
    own = next(known for known in known if known.model.method == name)
    return with_fields(own, {field: _value(config, field) for field in SAME})


def _value(config: ConfigDict, field: str):
    for part in field.split("."):
        config = config[part]
    return config


def backbone(config: ConfigDict, images: int, size: int) -> timing.Variant:
    """One forward pass, without heads."""
    model = methods.of(config).build(config)
    variables = crowds.variables(model)
    alone = {kind: tree["backbone"] for kind, tree in variables.items()}
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)

    def run(variables, pixels):
        return hrnet.build(config).apply(variables, hrnet.normalise(pixels))

    return timing.program("backbone, one view", run, alone, pixels, items=images)
