"""uint8 images to what the network sees; runs on the device."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

# ImageNet statistics of RGB in [0, 1], which the released backbone was trained with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(image: UInt8[Array, "*b h w 3"]) -> Float[Array, "*b h w 3"]:
    """RGB in 0..255 to float32 with ImageNet's mean 0 and deviation 1 a channel."""
    return (image.astype(jnp.float32) / 255 - jnp.array(MEAN)) / jnp.array(STD)
