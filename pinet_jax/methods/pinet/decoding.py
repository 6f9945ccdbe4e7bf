"""From maps to scored poses: part peaks, the poses they propose, keypoint scores.

Coordinates are (x, y) in heatmap pixels unless said otherwise.
"""

import bisect
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int32

from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.data import AnyArray
from pinet_jax.methods.sampling import read_pixels


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


def read_poses(
    offsets: Float[Array, "b h w s k 2"], centers: Int32[Array, "b s p 2"]
) -> Float[Array, "b s p k 2"]:
    """The pose each part centre proposes, center - O_s(center) (PINet eqs. 6 and 12)."""
    _, height, width, parts, *_ = offsets.shape
    of_part = offsets.reshape(offsets.shape[0], height * width * parts, 1, *offsets.shape[4:])
    pixel = centers[..., 1] * width + centers[..., 0]
    index = pixel * parts + jnp.arange(parts)[:, None]
    read = read_pixels(of_part, index.reshape(index.shape[0], -1))
    return centers[..., None, :] - read.reshape(*centers.shape[:3], *offsets.shape[4:])


def read_keypoint_heatmaps(
    heatmaps: Float[AnyArray, "b h w k"], poses: Float[AnyArray, "b n k 2"]
) -> Float[Array, "b n k"]:
    """Bilinear value of keypoint k's heatmap at keypoint k of each pose.

    Beyond the last row and column the map goes on with their values, before the
    first ones it goes on linearly, as the released up-sampling has it.
    """
    batch, height, width, keypoints = heatmaps.shape
    size = jnp.array([width, height])
    # Far points do not count (see `inside_map`): clipping keeps their numbers small.
    points = jnp.clip(poses, -1, size - 1)
    corner = jnp.clip(jnp.floor(points).astype(jnp.int32), 0, jnp.maximum(size - 2, 0))
    fraction = points - corner
    channel = jnp.arange(keypoints)
    entries = heatmaps.reshape(batch, height * width * keypoints)[:, :, None, None]

    def corner_values(dx: int, dy: int) -> Float[Array, "b n k"]:
        x = jnp.minimum(corner[..., 0] + dx, width - 1)
        y = jnp.minimum(corner[..., 1] + dy, height - 1)
        index = (y * width + x) * keypoints + channel
        return read_pixels(entries, index.reshape(batch, -1)).reshape(index.shape)

    fx, fy = fraction[..., 0], fraction[..., 1]
    top = (1 - fx) * corner_values(0, 0) + fx * corner_values(1, 0)
    bottom = (1 - fx) * corner_values(0, 1) + fx * corner_values(1, 1)
    return (1 - fy) * top + fy * bottom


def inside_map(points: Float[AnyArray, "*n 2"], height: int, width: int) -> Bool[Array, "*n"]:
    """Whether a keypoint counts on a full-resolution map of `height` x `width`.

    Args:
        points: (x, y) in network-input pixels of scale 1. The released code truncates
            them to whole pixels i and reads i and i + 1, which must both lie inside.
    """
    return ((points > -1) & (points < jnp.array([width, height]) - 1)).all(-1)


def keypoint_scores(
    heatmaps: Sequence[Float[AnyArray, "b _ _ k"]],
    scales: Sequence[float],
    poses: Float[AnyArray, "b n k 2"],
    size: tuple[int, int],
) -> Float[Array, "b n k"]:
    """r_k: the keypoint heatmaps' value at each keypoint, 0 outside the map.

    The released code sums up-sampled maps of all scales. Every scale's map is linear
    between its own pixels, so reading each by itself and averaging is the same.

    Args:
        heatmaps: H of every scale.
        scales: of the heatmaps.
        poses: (x, y) in network-input pixels of scale 1.
        size: height and width of the network input of scale 1.
    """
    reads = [
        read_keypoint_heatmaps(maps, poses * (scale / HEATMAP_STRIDE))
        for maps, scale in zip(heatmaps, scales, strict=True)
    ]
    return jnp.where(inside_map(poses, *size), sum(reads) / len(reads), 0)
