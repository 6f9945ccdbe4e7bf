"""Peaks of score maps, at static shapes."""

import bisect
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Int32

from pinet_jax.data import AnyArray


@struct.dataclass
class Peaks:
    """Part centres found in the part heatmaps, by falling score within a part.

    Attributes:
        centers: (x, y) pixels, inside the map even where not valid.
        scores: r_p, the heatmap's value there; 0 where not valid.
        valid: whether there is a peak.
    """

    centers: Int32[AnyArray, "*b s p 2"]
    scores: Float[AnyArray, "*b s p"]
    valid: Bool[AnyArray, "*b s p"]


def peak_window(height: int, width: int, windows: Sequence[int], sides: Sequence[float]) -> int:
    """Side in pixels of the neighbourhood a peak rules on a map of this size.

    Args:
        height: of the map without padding, pixels.
        width: of the map without padding, pixels.
        windows: config.eval.peak_windows.
        sides: config.eval.peak_window_sides.
    """
    return windows[bisect.bisect_left(sides, (height + width) / 2)]


def find_peaks(
    part_heatmaps: Float[AnyArray, "b h w s"], max_peaks: int, threshold: float, window: int
) -> Peaks:
    """The highest local maxima of each part heatmap (the released test procedure).

    A peak is a pixel equal to the maximum of the window around it, so every pixel of
    a plateau is one; of equal peaks the first in row order is kept.

    Args:
        part_heatmaps: P.
        max_peaks: kept a part, fewer if the map has fewer pixels.
        threshold: a peak's score is above it.
        window: side of the neighbourhood, odd, see `peak_window`.
    """
    batch, height, width, parts = part_heatmaps.shape
    highest = jax.lax.reduce_window(
        part_heatmaps, -jnp.inf, jax.lax.max, (1, window, window, 1), (1, 1, 1, 1), "SAME"
    )
    is_peak = (part_heatmaps == highest) & (part_heatmaps > threshold)
    ranked = jnp.where(is_peak, part_heatmaps, -jnp.inf).reshape(batch, height * width, parts)
    scores, index = jax.lax.top_k(ranked.swapaxes(1, 2), min(max_peaks, height * width))
    valid = scores > threshold
    centers = jnp.stack([index % width, index // width], -1).astype(jnp.int32)
    return Peaks(centers, jnp.where(valid, scores, 0), valid)
