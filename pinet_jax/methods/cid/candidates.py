"""From images to scored poses before suppression: flip test, centres, each instance's heatmaps.

Follows the released test procedure; static shapes, to be jitted.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt8
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE, normalise
from pinet_jax.data import AnyArray
from pinet_jax.errors import UserError
from pinet_jax.methods.candidates import (
    Candidates,
    Evidence,
    ScaleCandidates,
    apply_affine,
    comparable,
    mirrored_view,
)
from pinet_jax.methods.cid.network import CID, Maps
from pinet_jax.methods.peaks import find_peaks, peak_window
from pinet_jax.methods.variables import Variables

TOWARDS_HIGHER = 0.25  # heatmap pixels that a keypoint moves to its higher neighbour
_POINTS = ("poses", "proposals", "centers")
MIDDLE = 2  # input pixels from a heatmap pixel's corner to where its keypoint lies


def parts(config: ConfigDict) -> skeletons.Parts:
    """One part, the whole person."""
    return (tuple(range(skeletons.of(config).num_keypoints)),)


def check(config: ConfigDict) -> None:
    """UserError unless maps are averaged over squares that have a middle."""
    side = config.eval.smoothing
    if side < 1 or side % 2 == 0:
        raise UserError(f"config.eval.smoothing is {side}: give an odd number of heatmap pixels.")


def find_candidates(
    model: CID,
    variables: Variables,
    images: tuple[UInt8[AnyArray, "b _ _ 3"], ...],
    to_image: Float[AnyArray, "b 2 3"],
    config: ConfigDict,
) -> Candidates:
    """All scored poses before suppression; arguments as of `inspect`."""
    return inspect(model, variables, images, to_image, config).candidates


def inspect(
    model: CID,
    variables: Variables,
    images: tuple[UInt8[AnyArray, "b _ _ 3"], ...],
    to_image: Float[AnyArray, "b 2 3"],
    config: ConfigDict,
) -> Evidence:
    """All scored poses before suppression, with the maps they were read from.

    The release tests at one scale. At several, scores of centres are made comparable as
    PINet's are.

    Args:
        model: as built from the config.
        variables: {"params", "batch_stats"}.
        images: network inputs, one array a scale of config.eval.scales.
        to_image: affine maps from network-input pixels of scale 1 to image pixels.
        config: its `eval` part says how.
    """
    scales = tuple(config.eval.scales)
    heatmaps, centers, found, heats = zip(
        *(one_scale(model, variables, normalise(image), config) for image in images), strict=True
    )
    found = comparable(found, scales, config.eval.scale_decrease)
    candidates = [
        _in_image(f, heat, scale, to_image)
        for f, heat, scale in zip(found, heats, scales, strict=True)
    ]
    joined = jax.tree.map(lambda *arrays: jnp.concatenate(arrays, 1), *candidates)
    return Evidence(keypoint_heatmaps=heatmaps, part_heatmaps=centers, candidates=joined)


def one_scale(
    model: CID, variables: Variables, images: Float[AnyArray, "b h w 3"], config: ConfigDict
) -> tuple[
    Float[Array, "b h4 w4 k"], Float[Array, "b h4 w4 1"], ScaleCandidates, Float[Array, "b n k"]
]:
    """Heatmaps of keypoints and centres, poses in network-input pixels, and their heat r_k.

    With the flip test each image is also seen mirrored, and its features are mirrored back:
    from there on both views are of the same pixels, with left and right exchanged.
    """
    settings = config.eval
    maps = view_maps(model, variables, images, config)
    order = skeletons.of(config).flip_order if settings.flip else None
    heatmaps = _average_views(maps.heatmaps[..., :-1], order)
    centers = _average_views(maps.heatmaps[..., -1:], (0,) if settings.flip else None)
    centers = smoothed(centers, settings.smoothing)
    size = centers.shape[1:3]
    window = peak_window(*size, settings.peak_windows, settings.peak_window_sides)
    peaks = find_peaks(centers, settings.max_peaks, settings.peak_threshold, window)
    pixels, valid = peaks.centers[:, 0], peaks.valid[:, 0]
    poses, heat = read_people(model, variables, maps, pixels, valid, config)
    found = ScaleCandidates(
        poses=poses,
        proposals=poses,
        centers=_to_input(pixels.astype(poses.dtype)),
        part=jnp.zeros(valid.shape, jnp.int32),
        part_scores=peaks.scores[:, 0],
        valid=valid,
    )
    return heatmaps, centers, found, heat


def view_maps(
    model: CID, variables: Variables, images: Float[AnyArray, "b h w 3"], config: ConfigDict
) -> Maps:
    """Maps of normalised images and, with the flip test, of their mirrored views, mirrored back.

    Left and right keypoints of the mirrored views are still exchanged.
    """
    if not config.eval.flip:
        return model.apply(variables, images)
    both = jnp.concatenate([images, mirrored_view(images, config.eval.flip_shift)])
    of_images, of_mirrored = jnp.split(model.apply(variables, both, method="see"), 2)
    features = jnp.concatenate([of_images, of_mirrored[:, :, ::-1]])
    return model.apply(variables, features, method="heads")


def read_people(
    model: CID,
    variables: Variables,
    maps: Maps,
    centers: Int32[AnyArray, "b n 2"],
    valid: Bool[AnyArray, "b n"],
    config: ConfigDict,
) -> tuple[Float[Array, "b n k 2"], Float[Array, "b n k"]]:
    """The pose at each centre, (x, y) in network-input pixels, and its heatmaps' values.

    One instance of every image at a time, so that only its heatmaps are in memory, and no more
    of them than some image has: the valid ones come first.

    Args:
        model: as built from the config.
        variables: {"params", "batch_stats"}.
        maps: of all views.
        centers: (x, y) of pixels inside the map.
        valid: whether there is somebody.
        config: of the test procedure.
    """
    order = skeletons.of(config).flip_order if config.eval.flip else None
    views = maps.features.shape[0]
    images, count = valid.shape
    row = jnp.arange(views)

    def read(i: Array, people: tuple[Array, Array]) -> tuple[Array, Array]:
        center = jnp.tile(centers[:, i], (views // images, 1))
        vectors = maps.features[row, center[:, 1], center[:, 0]]
        own = model.apply(variables, maps.reduced, vectors, center, method="instances")
        own = smoothed(_average_views(own, order), config.eval.smoothing)
        return jax.tree.map(lambda all, one: all.at[:, i].set(one), people, read_pose(own))

    keypoints = model.num_keypoints
    nobody = jnp.zeros((images, count, keypoints, 2)), jnp.zeros((images, count, keypoints))
    poses, heat = jax.lax.fori_loop(0, valid.sum(1).max(), read, nobody)
    # So that what is read for an image does not depend on how many people others have.
    return jnp.where(valid[..., None, None], poses, 0), jnp.where(valid[..., None], heat, 0)


def smoothed(maps: Float[AnyArray, "b h w c"], side: int) -> Float[Array, "b h w c"]:
    """The mean of maps and of their means over squares of an odd `side`, zeros beyond the rim."""
    square = (1, side, side, 1)
    total = jax.lax.reduce_window(maps, 0.0, jax.lax.add, square, (1, 1, 1, 1), "SAME")
    return (maps + total / side**2) / 2


def read_pose(
    heatmaps: Float[AnyArray, "b h w k"],
) -> tuple[Float[Array, "b k 2"], Float[Array, "b k"]]:
    """Where each heatmap is highest, (x, y) in network-input pixels, and how high.

    Of equal pixels the first in row order; moved a little to the higher neighbour in x and in
    y, not at the border.
    """
    batch, height, width, keypoints = heatmaps.shape
    flat = jnp.asarray(heatmaps).reshape(batch, height * width, keypoints)
    index = flat.argmax(1)
    x, y = index % width, index // width

    def value(index: Array) -> Array:
        return jnp.take_along_axis(flat, jnp.clip(index, 0, height * width - 1)[:, None], 1)[:, 0]

    dx = jnp.sign(value(index + 1) - value(index - 1)) * ((x > 0) & (x < width - 1))
    dy = jnp.sign(value(index + width) - value(index - width)) * ((y > 0) & (y < height - 1))
    points = jnp.stack([x + TOWARDS_HIGHER * dx, y + TOWARDS_HIGHER * dy], -1)
    return _to_input(points), value(index)


def _to_input(points: Float[AnyArray, "*n 2"]) -> Float[Array, "*n 2"]:
    return HEATMAP_STRIDE * points + MIDDLE


def _average_views(
    maps: Float[AnyArray, "v h w c"], order: Sequence[int] | None
) -> Float[Array, "b h w c"]:
    """Maps of both views averaged; `order` takes the mirrored ones' channels to the others'."""
    if order is None:
        return maps
    of_images, of_mirrored = jnp.split(maps, 2)
    return (of_images + of_mirrored[..., np.array(order)]) / 2


def _in_image(
    found: ScaleCandidates,
    heat: Float[AnyArray, "b n k"],
    scale: float,
    to_image: Float[AnyArray, "b 2 3"],
) -> Candidates:
    """Candidates of a scale in image pixels, their keypoints scored r = heat * centre score."""

    def move(points: Array) -> Array:
        return apply_affine(to_image, points / scale)

    fields = vars(found) | {name: move(vars(found)[name]) for name in _POINTS}
    return Candidates(**fields, keypoint_scores=heat * found.part_scores[..., None])
