"""From maps to scored poses: the poses that parts propose, keypoint scores.

Coordinates are (x, y) in heatmap pixels unless said otherwise.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.data import AnyArray
from pinet_jax.methods.sampling import read_pixels


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
