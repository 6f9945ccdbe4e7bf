"""Batches to train on, as tf.data: the same sequence on any number of hosts."""

import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from input_pipeline import augment
from input_pipeline.quiet_tf import tf
from input_pipeline.storage import splits
from input_pipeline.storage.reader import Example, Split
from input_pipeline.tf_stream import numpy_stream
from pinet_jax import methods, skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.data import Batch, Persons
from pinet_jax.errors import UserError

PREFETCH = 2  # batches
_ORDER, _CROP = 0, 1  # independent random streams of one seed


def train_batches(
    config: ConfigDict, start_step: int, host_index: int = 0, host_count: int = 1
) -> Iterator[Batch]:
    """Endless training batches from `start_step` on.

    Example number p of the whole training is image p mod n of epoch p div n, whose order
    is a permutation drawn from (seed, epoch); its crop is drawn from (seed, p). So
    nothing has to be replayed to resume, and hosts only share the numbers out.

    Args:
        config: dataset, augmentation, targets, train and seed are read.
        start_step: steps that are done already.
        host_index: which share of every batch is loaded.
        host_count: number of equal shares.

    Yields:
        This host's share of each batch, see pinet_jax/data.py.

    Raises:
        UserError: bad data or limits, no image to train on, or a batch that hosts cannot share.
    """
    augment.check(config.augmentation)
    batch_size = config.train.batch_size
    if batch_size % host_count:
        raise UserError(
            f"config.train.batch_size: {batch_size} is no multiple of the {host_count} hosts; "
            "change --config.train.batch_size."
        )
    share = batch_size // host_count
    split, numbers = _training_examples(config)

    def load(count: np.int64) -> list[np.ndarray | np.generic]:
        step, slot = divmod(int(count), share)
        position = step * batch_size + host_index * share + slot
        example = split[int(numbers[_example_at(position, config.seed, len(numbers))])]
        rng = np.random.default_rng((config.seed, _CROP, position))
        return list(make_example(example, config, rng).values())

    specs = _element_specs(config)

    def load_tensors(count: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.numpy_function(load, [count], [spec.dtype for spec in specs.values()])
        return {
            name: tf.ensure_shape(value, spec.shape)
            for (name, spec), value in zip(specs.items(), values, strict=True)
        }

    counts = tf.data.Dataset.range(start_step * share, np.iinfo(np.int64).max)
    dataset = counts.map(
        load_tensors, num_parallel_calls=config.dataset.num_workers, deterministic=True
    )
    return numpy_stream(dataset.batch(share, drop_remainder=True).prefetch(PREFETCH))


def examples_per_epoch(config: ConfigDict) -> int:
    """Number of images trained on: those with enough labelled keypoints."""
    return len(_training_examples(config)[1])


def make_example(example: Example, config: ConfigDict, rng: np.random.Generator) -> Batch:
    """One random crop of an image as an unbatched element of `train_batches`."""
    size = config.train.input_size
    crop = augment.sample_parameters(rng, config.augmentation)
    matrix = augment.affine(crop, *example.image.shape[:2], size)
    flip_order = skeletons.of(config).flip_order if crop.flip else None
    persons, num_dropped = crop_persons(example, config, matrix, flip_order)
    region_mask = augment.warp_region_mask(
        example.ignore_mask, matrix, size, config.targets.mask_outside
    )
    return {
        "image": augment.warp_image(example.image, matrix, size),
        **persons,
        "region_mask": region_mask,
        "image_id": np.int64(example.image_id),
        "num_dropped": np.int32(num_dropped),
    }


def crop_persons(
    example: Example,
    config: ConfigDict,
    matrix: Float[np.ndarray, "2 3"],
    flip_order: tuple[int, ...] | None,
) -> tuple[Persons, int]:
    """The persons of an image in a crop, padded, and how many found no place.

    Args:
        example: the image.
        config: of the training.
        matrix: image pixels -> input pixels.
        flip_order: as of `augment.apply_to_keypoints`.
    """
    area = methods.of(config).person_area(
        example.keypoints, example.bbox, example.area, config.targets.area
    )
    persons = {
        "keypoints": augment.apply_to_keypoints(example.keypoints, matrix, flip_order),
        "area": augment.apply_to_area(area, matrix),
        "annotation_area": example.area,
        "corners": augment.apply_to_corners(augment.box_corners(example.bbox), matrix),
    }
    return augment.pad_persons(persons, config.train.input_size, config.dataset.max_persons)


def _training_examples(config: ConfigDict) -> tuple[Split, Int[np.ndarray, " n"]]:
    split = splits.open_split(config, config.dataset.train_split)
    enough = split.index.num_keypoints >= config.dataset.min_train_keypoints
    numbers = np.flatnonzero(enough & (split.index.num_keypoints > 0))
    if not len(numbers):
        raise UserError(
            f"No image of split '{config.dataset.train_split}' has "
            f"{config.dataset.min_train_keypoints} labelled keypoints: "
            "lower --config.dataset.min_train_keypoints or give other data."
        )
    return split, numbers


def _example_at(position: int, seed: int, num_examples: int) -> int:
    epoch, place = divmod(position, num_examples)
    return int(_epoch_order(seed, epoch, num_examples)[place])


@functools.lru_cache(maxsize=4)  # neighbouring epochs overlap in a parallel map
def _epoch_order(seed: int, epoch: int, num_examples: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(num_examples)


def _element_specs(config: ConfigDict) -> dict[str, tf.TensorSpec]:
    size, slots = config.train.input_size, config.dataset.max_persons
    num_keypoints = skeletons.of(config).num_keypoints
    side = size // HEATMAP_STRIDE
    return {
        "image": tf.TensorSpec((size, size, 3), tf.uint8),
        "keypoints": tf.TensorSpec((slots, num_keypoints, 3), tf.float32),
        "area": tf.TensorSpec((slots,), tf.float32),
        "annotation_area": tf.TensorSpec((slots,), tf.float32),
        "corners": tf.TensorSpec((slots, 4, 2), tf.float32),
        "region_mask": tf.TensorSpec((side, side), tf.bool),
        "image_id": tf.TensorSpec((), tf.int64),
        "num_dropped": tf.TensorSpec((), tf.int32),
    }
