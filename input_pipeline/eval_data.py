"""Batches to test on, as tf.data: every image once, images of one size together."""

from collections.abc import Hashable, Iterable, Iterator

import numpy as np
from ml_collections import ConfigDict

from input_pipeline.quiet_tf import tf
from input_pipeline.storage import splits
from input_pipeline.storage.reader import Index
from input_pipeline.tf_stream import numpy_stream
from pinet_jax.data import EvalBatch, Persons, RgbImage
from pinet_jax.errors import UserError
from pinet_jax.inference import network_input

PREFETCH = 2  # batches


def eval_batches(
    config: ConfigDict, split: str, host_index: int = 0, host_count: int = 1
) -> Iterator[EvalBatch]:
    """Every image of the split once, in an order that depends on the data alone.

    Short batches are filled up by repeating their last image with valid False. All hosts
    get the same number of batches, and their n-th batches have the same shape.

    Args:
        config: dataset and eval are read; config.eval.batch_size images a batch.
        split: as the dataset names it; "train+val" joins.
        host_index: which share of the batches is loaded.
        host_count: number of shares.
    """
    examples = splits.open_split(config, split)
    sizes = _network_sizes(examples.index, config)
    batches = plan_batches(sizes, config.eval.batch_size, host_count)[host_index::host_count]
    numbers = [number for batch in batches for number, _ in batch]
    valid = [is_valid for batch in batches for _, is_valid in batch]

    def load(position: np.int64) -> list[np.ndarray | np.generic]:
        example = examples[numbers[position]]
        settings = config.eval
        ready = network_input.prepare(
            example.image, settings.input_size, settings.scales, settings.square
        )
        to_image = np.asarray(ready.to_image, np.float32)
        return [to_image, np.int64(example.image_id), np.bool_(valid[position]), *ready.images]

    types = [tf.float32, tf.int64, tf.bool, *(tf.uint8 for _ in config.eval.scales)]
    shapes = [(2, 3), (), (), *((None, None, 3) for _ in config.eval.scales)]

    def load_tensors(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        values = tf.numpy_function(load, [position], types)
        return tuple(map(tf.ensure_shape, values, shapes))

    dataset = tf.data.Dataset.range(len(numbers)).map(
        load_tensors, num_parallel_calls=config.dataset.num_workers, deterministic=True
    )
    dataset = dataset.batch(config.eval.batch_size, drop_remainder=True).prefetch(PREFETCH)
    return (
        EvalBatch(tuple(images), to_image, image_id, is_valid)
        for to_image, image_id, is_valid, *images in numpy_stream(dataset)
    )


def load_images(
    config: ConfigDict, split: str, image_ids: Iterable[int]
) -> list[tuple[RgbImage, Persons]]:
    """Images as they are, each with its labelled persons as of `pinet_jax.data.Data`."""
    examples = splits.open_split(config, split)
    number_of = {int(image_id): n for n, image_id in enumerate(examples.index.image_id)}
    result = []
    for image_id in image_ids:
        if int(image_id) not in number_of:
            raise UserError(f"Split '{split}' has no image {image_id}: give an id of this split.")
        example = examples[number_of[int(image_id)]]
        persons = {
            "keypoints": example.keypoints,
            "bbox": example.bbox,
            "area": example.area,
            "id": example.ids,
        }
        result.append((example.image, persons))
    return result


def plan_batches(
    sizes: Iterable[Hashable], batch_size: int, host_count: int
) -> list[list[tuple[int, bool]]]:
    """(example number, valid) of every place in every batch.

    Args:
        sizes: of each example's network inputs; a batch has one size.
        batch_size: places in a batch.
        host_count: every size gets a multiple of so many batches, hosts taking turns.
    """
    round_size = batch_size * host_count
    batches = []
    for numbers in network_input.plan_batches(sizes, lambda _: round_size):
        places = [(number, True) for number in numbers]
        places += [(numbers[-1], False)] * (round_size - len(places))
        batches += [places[i : i + batch_size] for i in range(0, round_size, batch_size)]
    return batches


def _network_sizes(index: Index, config: ConfigDict) -> list[tuple]:
    return [
        tuple(
            network_input.eval_size(int(height), int(width), config, scale)
            for scale in config.eval.scales
        )
        for height, width in zip(index.height, index.width, strict=True)
    ]
