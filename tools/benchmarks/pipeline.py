"""The input pipeline: images a second, and where an image's time goes."""

import itertools
import time
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from tools.benchmarks import timing

IMAGES = 64  # of the stages' table
SECONDS = 20.0  # the stream is read for so long


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """The stages of one image, one after the other; then the whole stream.

    Raises:
        UserError: config.dataset.data_dir holds no such data.
    """
    from input_pipeline import augment, train_data
    from input_pipeline.storage import splits
    from pinet_jax import skeletons

    split = splits.open_split(config, config.dataset.train_split)
    numbers = itertools.cycle(np.linspace(0, len(split) - 1, IMAGES).astype(int))
    examples = [split[number] for number in itertools.islice(numbers, IMAGES)]
    size = config.train.input_size
    flip_order = skeletons.of(config).flip_order
    rng = np.random.default_rng(0)
    crops = [augment.sample_parameters(rng, config.augmentation) for _ in examples]
    matrices = [
        augment.affine(crop, *example.image.shape[:2], size)
        for crop, example in zip(crops, examples, strict=True)
    ]
    pairs = list(zip(examples, matrices, strict=True))
    stages = {
        "read and decode": lambda: [split[next(numbers)] for _ in examples],
        "crop the image": lambda: [augment.warp_image(e.image, m, size) for e, m in pairs],
        "crop the mask": lambda: [
            augment.warp_region_mask(e.ignore_mask, m, size, config.targets.mask_outside)
            for e, m in pairs
        ],
        "move the persons": lambda: [
            train_data.crop_persons(e, config, m, flip_order) for e, m in pairs
        ],
    }
    variants = [timing.Variant(name, run, IMAGES) for name, run in stages.items()]
    measured = timing.measure(variants, rounds)
    yield timing.table(f"input pipeline at {size}, one thread", measured, "float32")
    yield stream_rate(config)


def stream_rate(config: ConfigDict) -> str:
    """Images a second that the training stream gives when nothing else runs."""
    from input_pipeline import train_data

    batches = train_data.train_batches(config, 0)
    next(batches)
    before = time.process_time()
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < SECONDS:
        count += len(next(batches)["image"])
    seconds, busy = time.perf_counter() - start, time.process_time() - before
    batches.close()
    return (
        f"training stream at {config.train.input_size}: {count / seconds:.0f} images/s, "
        f"{count / busy:.0f} a core-second\n"
    )
