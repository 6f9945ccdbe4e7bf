"""Bilinear reads of maps at points.

Points are (x, y) in map pixels, a pixel's centre at its integer coordinates.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pinet_jax.data import AnyArray


def read_pixels(
    maps: Float[AnyArray, "b h w *c"], index: Int[AnyArray, "b n"]
) -> Float[Array, "b n *c"]:
    """Entries of each map at flat indices y * w + x, which must lie inside."""
    flat = maps.reshape(maps.shape[0], -1, *maps.shape[3:])
    return jax.vmap(lambda entries, i: entries.at[i].get(mode="promise_in_bounds"))(flat, index)


def sample_bilinear(
    maps: Float[AnyArray, "b h w c"], points: Float[AnyArray, "b *n 2"], convention: str
) -> Float[Array, "b *n c"]:
    """Bilinear value of each map at points; what lies outside the map reads zero.

    Args:
        maps: B maps of C channels.
        points: (x, y) in map pixels, any number of axes after the batch.
        convention: "exact", or "released": the released code normalises a coordinate
            with aligned corners and reads with half-pixel centres, so that c becomes
            c * S / (S - 1) - 0.5 on an axis of S pixels. Its weights expect that.
    """
    batch, height, width, channels = maps.shape
    xy = points.reshape(batch, -1, 2)
    size = jnp.array([width, height], xy.dtype)
    if convention == "released":
        xy = xy * (size / jnp.maximum(size - 1, 1)) - 0.5
    # Far points all read zero: clipping them keeps the integer corners in range.
    xy = jnp.clip(xy, -2, size + 1)
    corner = jnp.floor(xy)
    fraction = xy - corner
    total = jnp.zeros((*xy.shape[:2], channels), maps.dtype)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        at = corner + jnp.array([dx, dy], xy.dtype)
        weight = jnp.where(jnp.array([dx, dy]) == 1, fraction, 1 - fraction).prod(-1)
        inside = ((at >= 0) & (at < size)).all(-1)
        x, y = jnp.moveaxis(jnp.clip(at, 0, size - 1).astype(jnp.int32), -1, 0)
        weight = jnp.where(inside, weight, 0).astype(maps.dtype)
        total += weight[..., None] * read_pixels(maps, y * width + x)
    return total.reshape(*points.shape[:-1], channels)
