"""Keys for what a training draws at random, the same however its batches are divided."""

import jax
from jaxtyping import Array, Int, Key

from pinet_jax.data import AnyArray


def image_keys(
    seed: int, step: Int[AnyArray, ""] | int, numbers: Int[AnyArray, " b"]
) -> Key[Array, " b"]:
    """A key for each image of a training step.

    Args:
        seed: of the training.
        step: number of steps before it.
        numbers: of the images in the batch of all devices.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
