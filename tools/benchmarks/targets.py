"""Rendering of training targets: against Python loops, and as people and pixels grow."""

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.methods.randomness import image_keys
from tools.benchmarks import crowds, looped_targets, timing

BATCH = 8
PEOPLE = (1, 10, 30, 90)
LOOPED = ("pinet", "spm")  # methods whose targets are in Python, too
SIZES = (256, 512, 1024)


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """One table against loops, one of growing crowds, one of growing images."""
    size, persons = config.train.input_size, config.dataset.max_persons
    against = [renderer(config, BATCH, persons, size, "one program")]
    if config.model.method in LOOPED:
        against.append(loops(config, persons, size))
    measured = timing.measure(against, rounds)
    yield timing.table(f"targets of {persons} people at {size}", measured, "float32")
    by_people = [renderer(config, BATCH, n, size, f"{n} people") for n in PEOPLE]
    yield timing.table(
        f"targets of {BATCH} images at {size}", timing.measure(by_people, rounds), "float32"
    )
    by_size = [renderer(config, BATCH, persons, s, f"{s} pixels") for s in SIZES]
    yield timing.table(
        f"targets of {BATCH} images of {persons} people", timing.measure(by_size, rounds), "float32"
    )


def renderer(config: ConfigDict, images: int, persons: int, size: int, name: str) -> timing.Variant:
    """All targets of a batch."""
    keypoints = skeletons.of(config).num_keypoints
    batch = crowds.batch(np.random.default_rng(0), images, persons, keypoints, size, HEATMAP_STRIDE)
    batch["key"] = image_keys(config.seed, 0, np.arange(images))
    del batch["image"]
    method = methods.of(config)
    model = method.build(config)
    return timing.program(
        name, lambda batch: method.targets_of(model, batch, config), batch, items=images
    )


def loops(config: ConfigDict, persons: int, size: int) -> timing.Variant:
    """The same targets of one image, in Python."""
    skeleton = skeletons.of(config)
    parts = skeleton.parts(config.model.partition)
    points, area = crowds.people(np.random.default_rng(0), 1, persons, skeleton.num_keypoints, size)
    side = size // HEATMAP_STRIDE

    def run():
        looped_targets.render(points[0], area[0], (side, side), parts, config.targets)

    return timing.Variant("Python loops", run)
