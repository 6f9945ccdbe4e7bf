"""Training targets, rendered on the device from padded persons.

Every array has a static shape and nothing here leaves the jitted step. The two
conventions are the released code's and the paper's text; they differ in the
width of the Gaussian, in the neighbourhood of a part centre that regresses the
pose, and in its weight.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.data import AnyArray, Batch
from pinet_jax.methods.shown_targets import ShownTargets
from pinet_jax.skeletons import Parts


@struct.dataclass
class Targets:
    """What the maps of a batch should be, and how much each entry counts.

    Attributes:
        keypoint_heatmaps: in [0, 1], one channel a keypoint.
        keypoint_mask: loss weight: 1 near a keypoint, the background weight
            elsewhere, 0 outside the region mask.
        part_heatmaps: in [0, 1], one channel a part.
        part_mask: as `keypoint_mask`.
        offsets: pixel minus keypoint, (x, y) in heatmap pixels; 0 where the weight is.
        offset_weights: of both coordinates of an offset; 0 where there is none.
    """

    keypoint_heatmaps: Float[AnyArray, "*b h w k"]
    keypoint_mask: Float[AnyArray, "*b h w k"]
    part_heatmaps: Float[AnyArray, "*b h w s"]
    part_mask: Float[AnyArray, "*b h w s"]
    offsets: Float[AnyArray, "*b h w s k 2"]
    offset_weights: Float[AnyArray, "*b h w s k"]


def is_released(convention: str) -> bool:
    """Whether targets follow the released code, not the paper."""
    return convention == "released"


def person_area(
    keypoints: Float[AnyArray, "*n k 3"],
    boxes: Float[AnyArray, "*n 4"],
    segments: Float[AnyArray, "*n"],
    kind: str,
) -> Float[AnyArray, "*n"]:
    """The area that people are trained by: NumPy or JAX arrays, image pixels squared.

    It decides who is too small for targets, who owns a contested pixel, and the weights of
    the offsets (PINet eq. 8). Scores have areas of their own.

    Args:
        keypoints: x, y in image pixels and v; they do not matter here.
        boxes: x, y, width, height.
        segments: the annotations' own areas.
        kind: config.targets.area: "box", or "released", takes width x height, as the released
            code does, "segment" the annotation's own.
    """
    del keypoints
    return segments if kind == "segment" else boxes[..., 2] * boxes[..., 3]


def render_targets(
    keypoints: Float[AnyArray, "b p k 3"],
    area: Float[AnyArray, "b p"],
    region_mask: Bool[AnyArray, "b h w"],
    parts: Parts,
    config: ConfigDict,
) -> Targets:
    """Renders heatmaps, their masks and offset maps (PINet eqs. S1, S2, 7, 8).

    A keypoint or part centre outside the map leaves no trace. A person of less
    than `min_area` has keypoint heatmaps but no part centres, hence no offsets.

    Args:
        keypoints: x, y in input pixels and v, which is positive if labelled.
        area: of each person in input pixels squared; 0 marks padding.
        region_mask: False where the heatmap loss must not look.
        parts: keypoint indices of each part.
        config: `config.targets`.
    """
    keypoints, area, region_mask = map(jnp.asarray, (keypoints, area, region_mask))
    centers = part_centers(keypoints, area, parts, config)
    return render(keypoints, centers, area, region_mask, config, config.sigma)


def render(
    keypoints: Float[Array, "b p k 3"],
    centers: Float[Array, "b p s 3"],
    area: Float[Array, "b p"],
    region_mask: Bool[Array, "b h w"],
    config: ConfigDict,
    center_sigma: float,
) -> Targets:
    """Renders the targets of people with these centres.

    Args:
        keypoints: as of `render_targets`.
        centers: x, y in input pixels and v, which is positive where there is a centre.
        area: as of `render_targets`.
        region_mask: as of `render_targets`.
        config: `config.targets`.
        center_sigma: of the centres' Gaussians, heatmap pixels.
    """
    size = region_mask.shape[1:]
    to_map = jnp.array([HEATMAP_STRIDE, HEATMAP_STRIDE, 1.0])
    centers = _drop_outside(centers / to_map, size)
    keypoints = _drop_outside(_label_where(keypoints / to_map, area > 0), size)

    keypoint_heatmaps = _heatmaps(keypoints, size, config, config.sigma)
    part_heatmaps = _heatmaps(centers, size, config, center_sigma)
    owner = _owners(centers, area, size, config)
    offsets, offset_weights = _offsets(keypoints, area, centers, owner, config)
    return Targets(
        keypoint_heatmaps=keypoint_heatmaps,
        keypoint_mask=_loss_mask(keypoint_heatmaps, region_mask, config),
        part_heatmaps=part_heatmaps,
        part_mask=_loss_mask(part_heatmaps, region_mask, config),
        offsets=offsets,
        offset_weights=offset_weights,
    )


def show_targets(batch: Batch, config: ConfigDict) -> ShownTargets:
    """The targets of a training batch as pictures show them."""
    parts = skeletons.of(config).parts(config.model.partition)
    keypoints, area = batch["keypoints"], batch["area"]
    targets = render_targets(keypoints, area, batch["region_mask"], parts, config.targets)
    return ShownTargets(
        keypoint_heatmaps=targets.keypoint_heatmaps,
        part_heatmaps=targets.part_heatmaps,
        centers=part_centers(keypoints, area, parts, config.targets),
        offsets=targets.offsets,
        offset_weights=targets.offset_weights,
    )


def part_centers(
    keypoints: Float[AnyArray, "b p k 3"],
    area: Float[AnyArray, "b p"],
    parts: Parts,
    config: ConfigDict,
) -> Float[Array, "b p s 3"]:
    """The mean of each part's labelled keypoints, those outside the map included.

    Args:
        keypoints: x, y in any pixels and v.
        area: in input pixels squared; 0 marks padding.
        parts: keypoint indices of each part.
        config: `config.targets`; persons below its `min_area` have no centres.

    Returns:
        x, y in the pixels of `keypoints` and v: 1 where there is a centre, else 0.
    """
    keypoints, area = jnp.asarray(keypoints), jnp.asarray(area)
    centers = jnp.stack([_labelled_mean(keypoints[:, :, list(part)]) for part in parts], axis=2)
    return _label_where(centers, (area > 0) & (area >= config.min_area))


def _labelled_mean(points: Float[Array, "b p n 3"]) -> Float[Array, "b p 3"]:
    labelled = points[..., 2:] > 0
    count = labelled.sum(2)
    mean = jnp.where(labelled, points[..., :2], 0).sum(2) / jnp.maximum(count, 1)
    return jnp.concatenate([mean, count > 0], axis=-1)


def _label_where(
    points: Float[Array, "b p n 3"], person: Bool[Array, "b p"]
) -> Float[Array, "b p n 3"]:
    """Unlabels the points of all other persons."""
    return points.at[..., 2].multiply(person[..., None])


def _drop_outside(points: Float[Array, "b p n 3"], size: tuple[int, int]) -> Array:
    """Unlabels points outside [0, width) x [0, height)."""
    x, y = points[..., 0], points[..., 1]
    height, width = size
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return points.at[..., 2].multiply(inside)


def _heatmaps(
    points: Float[Array, "b p n 3"], size: tuple[int, int], config: ConfigDict, sigma: float
) -> Float[Array, "b h w n"]:
    """Maximum over persons of a Gaussian about each labelled point (PINet eq. S1)."""
    height, width = size
    labelled = points[..., None, :, 2] > 0
    rows = _gaussian(points[..., 1], height, config, sigma) * labelled
    columns = _gaussian(points[..., 0], width, config, sigma)
    # Person by person: XLA makes one loop over the pixels of it, with [b, p, h, w, n] never in
    # memory, that is 15 times faster on a CPU than what it makes of a maximum over an axis.
    return functools.reduce(
        jnp.maximum,
        (rows[:, p, :, None] * columns[:, p, None] for p in range(points.shape[1])),
    )


def _gaussian(
    center: Float[Array, "b p n"], length: int, config: ConfigDict, sigma: float
) -> Float[Array, "b p length n"]:
    """One axis of a Gaussian, 0 outside the window of about three sigma."""
    center = center[..., None, :]
    pixel = jnp.arange(length, dtype=center.dtype)[:, None]
    reach = 3 * sigma + 1
    window = (pixel >= jnp.floor(center - reach)) & (pixel <= jnp.ceil(center + reach))
    spread = sigma**2 * (2 if is_released(config.convention) else 1)
    return jnp.where(window, jnp.exp(-((pixel - center) ** 2) / spread), 0)


def _loss_mask(
    heatmaps: Float[Array, "b h w n"], region_mask: Bool[Array, "b h w"], config: ConfigDict
) -> Float[Array, "b h w n"]:
    # A Gaussian of sigma >= 1 is positive in float32 on its whole window, and 0 elsewhere.
    mask = jnp.where(heatmaps > 0, 1.0, config.background_weight)
    return mask * region_mask[..., None]


def _owners(
    centers: Float[Array, "b p s 3"],
    area: Float[Array, "b p"],
    size: tuple[int, int],
    config: ConfigDict,
) -> Int[Array, "b h w s"]:
    """The smallest person near whose part centre a pixel lies, or -1.

    Of persons of equal area the first owns the pixel.
    """
    order = jnp.argsort(area, axis=1)
    by_area = jnp.take_along_axis(centers, order[:, :, None, None], axis=1)
    num_persons = area.shape[1]
    rank = jnp.arange(num_persons)[:, None, None, None]
    near = _near(by_area, size, config)
    smallest = jnp.min(jnp.where(near, rank, num_persons), axis=1)  # fused, like the heatmaps
    order = jnp.pad(order, ((0, 0), (0, 1)), constant_values=-1)
    return jax.vmap(lambda order, rank: order[rank])(order, smallest)


def _near(
    centers: Float[Array, "b p s 3"], size: tuple[int, int], config: ConfigDict
) -> Bool[Array, "b p h w s"]:
    """Whether a pixel is in the neighbourhood of a part centre (N_k of PINet eq. S2)."""
    height, width = size
    x, y, v = jnp.moveaxis(centers[:, :, None, None], -1, 0)
    column = jnp.arange(width, dtype=x.dtype)[:, None]
    row = jnp.arange(height, dtype=x.dtype)[:, None, None]
    if is_released(config.convention):
        radius = config.square_radius
        dx, dy = column - jnp.floor(x), row - jnp.floor(y)
        near = (dx >= -radius) & (dx < radius) & (dy >= -radius) & (dy < radius)
    else:
        near = (column - x) ** 2 + (row - y) ** 2 <= config.disc_radius2
    return near & (v > 0)


def _offsets(
    keypoints: Float[Array, "b p k 3"],
    area: Float[Array, "b p"],
    centers: Float[Array, "b p s 3"],
    owner: Int[Array, "b h w s"],
    config: ConfigDict,
) -> tuple[Float[Array, "b h w s k 2"], Float[Array, "b h w s k"]]:
    """Offsets to the owner's keypoints (PINet eq. S2) and their weights (eq. 8).

    Few pixels are owned: their rows are put into maps of zeros.
    """
    index, pixel = _owned_rows(centers, owner, config)
    xy, labelled = keypoints[..., :2], keypoints[..., 2] > 0
    offsets = pixel[..., None, :] - xy[:, :, None, None]
    offsets = jnp.where(labelled[:, :, None, None, :, None], offsets, 0)
    size = jnp.sqrt(area) if is_released(config.convention) else area
    weights = labelled / jnp.where(area > 0, size, 1)[..., None]
    weights = jnp.broadcast_to(weights[:, :, None, None], offsets.shape[:-1])

    def put(rows: Array) -> Array:
        kind = rows.shape[4:]
        rows = rows.reshape(len(rows), -1, *kind)
        maps = jnp.zeros((len(rows), owner[0].size, *kind), rows.dtype)
        maps = jax.vmap(lambda maps, index, rows: maps.at[index].set(rows, mode="drop"))(
            maps, index.reshape(len(index), -1), rows
        )
        return maps.reshape(*owner.shape, *kind)

    return put(offsets), put(weights)


def _owned_rows(
    centers: Float[Array, "b p s 3"], owner: Int[Array, "b h w s"], config: ConfigDict
) -> tuple[Int[Array, "b p s n"], Float[Array, "b p s n 2"]]:
    """The n pixels around each part centre, among them all those that it may own.

    Returns:
        Flat indices into [h, w, s] of those that the person does own, and indices beyond
        the end for the others; (x, y) of all of them.
    """
    height, width, parts = owner.shape[1:]
    reach = max(config.square_radius, math.ceil(math.sqrt(config.disc_radius2)))
    step = jnp.arange(-reach, reach + 1)
    around = jnp.stack(jnp.meshgrid(step, step), axis=-1).reshape(-1, 2)
    # Far centres own nothing: clipping keeps their numbers small.
    corner = jnp.clip(jnp.floor(centers[..., :2]), -1, max(height, width)).astype(jnp.int32)
    pixel = corner[..., None, :] + around
    x, y = pixel[..., 0], pixel[..., 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = (y * width + x) * parts + jnp.arange(parts)[:, None]
    owners = jax.vmap(lambda owner, index: owner.ravel()[index])(owner, jnp.where(inside, index, 0))
    owned = inside & (owners == jnp.arange(centers.shape[1])[:, None, None])
    return jnp.where(owned, index, height * width * parts), pixel.astype(centers.dtype)
