"""Training targets, rendered on the device from padded persons.

A person's Gaussians are as wide as CornerNet's (Law and Deng, ECCV 2018): so wide that a box
which is off by their radius still overlaps the person's. Every array has a static shape.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key
from ml_collections import ConfigDict

from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.data import AnyArray, Batch
from pinet_jax.methods.shown_targets import ShownTargets

Size = tuple[int, int]  # height and width of the heatmaps, pixels


@struct.dataclass
class Instances:
    """The persons that train heatmaps of their own, N of the batch's images together.

    Attributes:
        image: index in the batch.
        centers: (x, y) of the pixel where f is read, moved at random.
        points: (x, y) of the keypoints, whole heatmap pixels.
        labelled: keypoints that count; those outside the map train an empty one.
        radius: of the Gaussians, heatmap pixels.
        valid: whether there is an instance.
    """

    image: Int[AnyArray, "*n"]
    centers: Int[AnyArray, "*n 2"]
    points: Int[AnyArray, "*n k 2"]
    labelled: Bool[AnyArray, "*n k"]
    radius: Int[AnyArray, "*n"]
    valid: Bool[AnyArray, "*n"]


@struct.dataclass
class Targets:
    """What the maps of a batch should be, and where that counts.

    Attributes:
        heatmaps: in [0, 1], of everybody's keypoints and, last, centres.
        region_mask: False where they do not count.
        instances: whose own heatmaps `instance_heatmaps` renders.
    """

    heatmaps: Float[AnyArray, "*b h w n"]
    region_mask: Bool[AnyArray, "*b h w"]
    instances: Instances


def targets_of(model: Any, batch: Batch, config: ConfigDict) -> Targets:
    """Renders the targets of a batch as of `pinet_jax.data`, with a `key` for each image."""
    persons = _persons(batch, config)
    choice = jax.random.fold_in(batch["key"][0], 1)  # apart from what moves the first's centres
    return Targets(
        heatmaps=_everybodys_heatmaps(batch, persons, config),
        region_mask=batch["region_mask"],
        instances=_choose(persons, choice, config.targets.max_instances),
    )


def show_targets(batch: Batch, config: ConfigDict) -> ShownTargets:
    """The targets of a training batch as pictures show them, of all instances."""
    size = batch["region_mask"].shape[1:]
    persons = _persons(batch, config)
    heatmaps = _everybodys_heatmaps(batch, persons, config)
    own = jax.vmap(lambda instances: instance_heatmaps(instances, size))(persons).max(-1)
    read = jnp.concatenate([persons.centers * HEATMAP_STRIDE, persons.valid[..., None]], -1)
    return ShownTargets(
        keypoint_heatmaps=heatmaps[..., :-1],
        part_heatmaps=heatmaps[..., -1:],
        centers=read[:, :, None].astype(jnp.float32),
        offsets=None,
        offset_weights=None,
        person_heatmaps=own * persons.valid[..., None, None],
    )


def _persons(batch: Batch, config: ConfigDict) -> Instances:
    """All persons as instances, [b, p], not valid where they train no heatmaps of their own."""
    settings = config.targets
    size = batch["region_mask"].shape[1:]
    keypoints, area = jnp.asarray(batch["keypoints"]), jnp.asarray(batch["area"])
    points, real = keypoints[..., :2] / HEATMAP_STRIDE, area > 0
    labelled = (keypoints[..., 2] > 0) & real[..., None]
    centers = person_centers(points, labelled)
    has_center = _has_center(labelled, area, config)
    sampled, valid = sample_centers(centers, has_center, area, batch["key"], size, settings)
    return Instances(
        image=jnp.broadcast_to(jnp.arange(len(real))[:, None], real.shape),
        centers=sampled,
        points=_truncate(points, size),
        labelled=labelled,
        radius=box_radius(batch["corners"] / HEATMAP_STRIDE, size, settings.min_box_overlap),
        valid=valid,
    )


def _has_center(
    labelled: Bool[AnyArray, "b p k"], area: Float[AnyArray, "b p"], config: ConfigDict
) -> Bool[Array, "b p"]:
    return labelled.any(-1) & (area >= config.targets.min_area)


def person_centers(
    points: Float[AnyArray, "*n k 2"], labelled: Bool[AnyArray, "*n k"]
) -> Float[Array, "*n 2"]:
    """The mean of each person's labelled keypoints; (0, 0) without any."""
    total = jnp.where(labelled[..., None], points, 0).sum(-2)
    return total / jnp.maximum(labelled.sum(-1, keepdims=True), 1)


def box_radius(corners: Float[AnyArray, "*n 4 2"], size: Size, overlap: float) -> Int[Array, "*n"]:
    """Radius of the Gaussians of persons with these boxes, heatmap pixels.

    Args:
        corners: (x, y) of the box, which may have been turned, in heatmap pixels.
        size: of the map that the corners are clipped to.
        overlap: config.targets.min_box_overlap.
    """
    height, width = size
    clipped = jnp.clip(corners, 0, jnp.array([width - 1, height - 1]))
    sides = jnp.ceil(clipped.max(-2) - clipped.min(-2))
    return gaussian_radius(sides[..., 1], sides[..., 0], overlap).astype(jnp.int32)


def gaussian_radius(
    height: Float[AnyArray, "*n"], width: Float[AnyArray, "*n"], overlap: float
) -> Float[Array, "*n"]:
    """CornerNet's radius: the least of three ways that a box can be off by.

    As released: the last two lack the division by their equations' leading coefficient.
    """
    around, area = height + width, height * width
    both_ways = (around + jnp.sqrt(around**2 - 4 * area * (1 - overlap) / (1 + overlap))) / 2
    inwards = around + jnp.sqrt(around**2 - 4 * area * (1 - overlap))
    grown = overlap * around
    outwards = jnp.sqrt(grown**2 + 4 * overlap * (1 - overlap) * area) - grown
    return jnp.minimum(jnp.minimum(both_ways, inwards), outwards)


def sample_centers(
    centers: Float[AnyArray, "b p 2"],
    valid: Bool[AnyArray, "b p"],
    area: Float[AnyArray, "b p"],
    keys: Key[Array, " b"],
    size: Size,
    config: ConfigDict,
) -> tuple[Int[Array, "b p 2"], Bool[Array, "b p"]]:
    """The pixels where persons are read in training, near their centres, no two of them the same.

    Of persons that draw one pixel the smallest has it, of equal ones the first.

    Args:
        centers: (x, y), heatmap pixels.
        valid: persons with a centre.
        area: of the persons.
        keys: one an image.
        size: of the heatmaps.
        config: `config.targets`.

    Returns:
        (x, y) inside the map, and which persons have theirs.
    """
    inside = valid & _inside(_truncate(centers, size), size)
    height, width = size

    def of_image(key, centers, inside, area):
        reach = config.center_jitter
        moved = jax.random.randint(key, centers.shape, -reach, reach + 1)
        pixel = jnp.clip(_truncate(centers, size) + moved, 0, jnp.array([width - 1, height - 1]))
        same = (pixel[:, None] == pixel).all(-1) & inside[:, None] & inside
        number = jnp.arange(len(area))
        smaller = (area[:, None] < area) | ((area[:, None] == area) & (number[:, None] < number))
        return pixel, inside & ~(same & smaller).any(0)

    return jax.vmap(of_image)(keys, centers, inside, area)


def instance_heatmaps(instances: Instances, size: Size) -> Float[Array, "n h w k"]:
    """In [0, 1], of each instance's own keypoints; all 0 where unlabelled or not in the map."""
    rows, columns = _gaussians(instances.points, instances.radius, size)
    rows = rows * (instances.labelled & _inside(instances.points, size))[:, None]
    return rows[:, :, None] * columns[:, None]


def _truncate(points: Float[AnyArray, "*n 2"], size: Size) -> Int[Array, "*n 2"]:
    """Whole pixels, towards zero as released; far points stay just outside the map."""
    height, width = size
    return jnp.clip(points, -1, jnp.array([width, height])).astype(jnp.int32)


def _inside(pixel: Int[AnyArray, "*n 2"], size: Size) -> Bool[Array, "*n"]:
    height, width = size
    return ((pixel >= 0) & (pixel < jnp.array([width, height]))).all(-1)


def _everybodys_heatmaps(
    batch: Batch, persons: Instances, config: ConfigDict
) -> Float[Array, "b h w n"]:
    """Maximum over persons of the Gaussians about their keypoints and, last, their centres."""
    size = batch["region_mask"].shape[1:]
    centers = person_centers(batch["keypoints"][..., :2] / HEATMAP_STRIDE, persons.labelled)
    pixel = jnp.concatenate([persons.points, _truncate(centers, size)[:, :, None]], 2)
    has_center = _has_center(persons.labelled, batch["area"], config)
    drawn = jnp.concatenate([persons.labelled, has_center[..., None]], -1)
    rows, columns = _gaussians(pixel, persons.radius, size)
    rows = rows * (drawn & _inside(pixel, size))[:, :, None]
    # Person by person, as in pinet/targets.py: [b, p, h, w, n] is never in memory.
    return functools.reduce(
        jnp.maximum,
        (rows[:, p, :, None] * columns[:, p, None] for p in range(pixel.shape[1])),
    )


def _gaussians(
    pixel: Int[AnyArray, "*m n 2"], radius: Int[AnyArray, "*m"], size: Size
) -> tuple[Float[Array, "*m h n"], Float[Array, "*m w n"]]:
    """Rows and columns of Gaussians, 1 at their pixel and 0 beyond the radius."""
    height, width = size
    return (
        _gaussian(pixel[..., 1], radius, height),
        _gaussian(pixel[..., 0], radius, width),
    )


def _gaussian(
    pixel: Int[AnyArray, "*m n"], radius: Int[AnyArray, "*m"], length: int
) -> Float[Array, "*m length n"]:
    distance = jnp.arange(length)[:, None] - pixel[..., None, :]
    radius = radius[..., None, None]
    sigma = (2 * radius + 1) / 6
    value = jnp.exp(-(distance**2) / (2 * sigma**2))
    return jnp.where(jnp.abs(distance) <= radius, value, 0)


def _choose(instances: Instances, key: Key[Array, ""], most: int) -> Instances:
    """Of instances [b, p] those that there are, [n]; of more than `most` a random choice."""
    count = instances.valid.size
    flat = jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), instances)
    if count <= most:
        return flat
    drawn = jnp.where(flat.valid, jax.random.uniform(key, (count,)), -1)
    index = jax.lax.top_k(drawn, most)[1]
    return jax.tree.map(lambda x: x[index], flat)
