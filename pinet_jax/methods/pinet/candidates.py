"""From images to scored poses before suppression: flip test, scales, peaks, refinement.

Follows the released test procedure; static shapes, to be jitted.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int32, Shaped, UInt8
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE, normalise
from pinet_jax.methods.candidates import (
    Candidates,
    Evidence,
    ScaleCandidates,
    apply_affine,
    comparable,
    mirrored_view,
)
from pinet_jax.methods.peaks import find_peaks, peak_window
from pinet_jax.methods.pinet.decoding import keypoint_scores, read_poses
from pinet_jax.methods.pinet.network import PINet
from pinet_jax.methods.pinet.ppg import Maps
from pinet_jax.methods.pinet.refinement import join_parts
from pinet_jax.methods.variables import Variables

MirrorView = Callable[[Float[Array, "b h w 3"], int], Float[Array, "b h w 3"]]
ReadHeat = Callable[..., Float[Array, "b n k"]]


def parts(config: ConfigDict) -> skeletons.Parts:
    """Keypoint indices of each part; UserError if the skeleton has no such partition."""
    return skeletons.of(config).parts(config.model.partition)


def check(config: ConfigDict) -> None:
    """UserError if the flip test is on and the mirror image of some part is no part."""
    mirror_of(config, parts(config), width=1)


def find_candidates(
    model: PINet,
    variables: Variables,
    images: tuple[UInt8[Array, "b _ _ 3"], ...],
    to_image: Float[Array, "b 2 3"],
    config: ConfigDict,
) -> Candidates:
    """All scored poses before suppression; arguments as of `inspect`."""
    return inspect(model, variables, images, to_image, config).candidates


def inspect(
    model: nn.Module,
    variables: Variables,
    images: tuple[UInt8[Array, "b _ _ 3"], ...],
    to_image: Float[Array, "b 2 3"],
    config: ConfigDict,
    mirror_view: MirrorView = mirrored_view,
    read_heat: ReadHeat = keypoint_scores,
) -> Evidence:
    """All scored poses before suppression, with the maps they were read from.

    Args:
        model: PINet, or another with its maps, as built from the config.
        variables: {"params", "batch_stats"}.
        images: network inputs, one array a scale of config.eval.scales.
        to_image: affine maps from network-input pixels of scale 1 to image pixels.
        config: its `eval` part says how.
        mirror_view: gives the mirrored view, as `mirrored_view` does.
        read_heat: gives r_k, as `keypoint_scores` does.
    """
    scales = tuple(config.eval.scales)
    heatmaps, part_heatmaps, found = zip(
        *(one_scale(model, variables, normalise(i), config, mirror_view) for i in images),
        strict=True,
    )
    found = comparable(found, scales, config.eval.scale_decrease)
    found = [
        _move(f, lambda p, s=s: p * HEATMAP_STRIDE / s) for f, s in zip(found, scales, strict=True)
    ]
    found = jax.tree.map(lambda *arrays: jnp.concatenate(arrays, 1), *found)
    size = tuple(round(side / scales[0]) for side in images[0].shape[1:3])
    r_k = read_heat(heatmaps, scales, found.poses, size)
    found = _move(found, lambda p: apply_affine(to_image, p))
    scored = Candidates(keypoint_scores=r_k * found.part_scores[..., None], **vars(found))
    return Evidence(heatmaps, part_heatmaps, scored)


def one_scale(
    model: nn.Module,
    variables: Variables,
    images: Float[Array, "b h w 3"],
    config: ConfigDict,
    mirror_view: MirrorView = mirrored_view,
) -> tuple[Float[Array, "b h4 w4 k"], Float[Array, "b h4 w4 s"], ScaleCandidates]:
    """Keypoint heatmaps, part heatmaps and candidates of normalised images of one scale.

    With the flip test each image is also seen mirrored. Both views' heatmaps are
    averaged and searched for peaks; each view then reads and refines its own poses
    at these, and the two versions of a pose are averaged. What is a left part in one
    view is a right one in the other.
    """
    maps = view_maps(model, variables, images, config, mirror_view)
    heatmaps, part_heatmaps = score_maps(maps, config, model.parts)
    settings = config.eval
    window = peak_window(
        *part_heatmaps.shape[1:3], settings.peak_windows, settings.peak_window_sides
    )
    peaks = find_peaks(part_heatmaps, settings.max_peaks, settings.peak_threshold, window)
    mirror = mirror_of(config, model.parts, heatmaps.shape[2])
    centers = _both_views(peaks.centers, mirror, Mirror.centers)
    valid = _both_views(peaks.valid, mirror, Mirror.of_parts)
    proposals, poses = (
        _average_views(poses, mirror, Mirror.poses)
        for poses in _propose(model, variables, maps, centers, valid)
    )
    part = jnp.broadcast_to(jnp.arange(peaks.valid.shape[1])[:, None], peaks.valid.shape)
    return (
        heatmaps,
        part_heatmaps,
        ScaleCandidates(
            poses=join_parts(poses),
            proposals=join_parts(proposals),
            centers=join_parts(peaks.centers).astype(poses.dtype),
            part=join_parts(part),
            part_scores=join_parts(peaks.scores),
            valid=join_parts(peaks.valid),
        ),
    )


def view_maps(
    model: nn.Module,
    variables: Variables,
    images: Float[Array, "b h w 3"],
    config: ConfigDict,
    mirror_view: MirrorView = mirrored_view,
) -> Maps:
    """Maps of normalised images and, with the flip test, of the mirrored ones after them."""
    if config.eval.flip:
        images = jnp.concatenate([images, mirror_view(images, config.eval.flip_shift)])
    return model.apply(variables, images, train=False)


def score_maps(
    maps: Maps, config: ConfigDict, parts: skeletons.Parts
) -> tuple[Float[Array, "b h w k"], Float[Array, "b h w s"]]:
    """H and P, averaged over the views that `view_maps` gives."""
    mirror = mirror_of(config, parts, maps.part_heatmaps.shape[2])
    return (
        _average_views(maps.keypoint_heatmaps, mirror, Mirror.keypoint_maps),
        _average_views(maps.part_heatmaps, mirror, Mirror.part_maps),
    )


class Mirror(NamedTuple):
    """From what a mirrored view holds to what it says about the image, and back.

    Left and right change places: of points, of keypoints and of parts.

    Attributes:
        keypoints: the skeleton's flip order.
        parts: that of the partition's parts.
        width: of the maps, pixels.
    """

    keypoints: Int32[np.ndarray, " k"]
    parts: Int32[np.ndarray, " s"]
    width: int

    def keypoint_maps(self, maps: Float[Array, "b h w k"]) -> Float[Array, "b h w k"]:
        """Maps of a channel a keypoint."""
        return maps[:, :, ::-1, self.keypoints]

    def part_maps(self, maps: Float[Array, "b h w s"]) -> Float[Array, "b h w s"]:
        """Maps of a channel a part."""
        return maps[:, :, ::-1, self.parts]

    def of_parts(self, x: Shaped[Array, "b s *rest"]) -> Shaped[Array, "b s *rest"]:
        """Anything a part that has no direction."""
        return x[:, self.parts]

    def centers(self, centers: Int32[Array, "b s p 2"]) -> Int32[Array, "b s p 2"]:
        """Part centres, (x, y) in map pixels."""
        return self.of_parts(self._points(centers))

    def poses(self, poses: Float[Array, "b s p k 2"]) -> Float[Array, "b s p k 2"]:
        """Poses proposed by parts, (x, y) in map pixels."""
        return self.of_parts(self._points(poses))[:, :, :, self.keypoints]

    def _points(self, points: Shaped[Array, "*n 2"]) -> Shaped[Array, "*n 2"]:
        return jnp.stack([self.width - 1 - points[..., 0], points[..., 1]], -1)


def mirror_of(config: ConfigDict, parts: skeletons.Parts, width: int) -> Mirror | None:
    """How the flip test mirrors maps of `width` pixels; None without the test."""
    if not config.eval.flip:
        return None
    skeleton = skeletons.of(config)
    orders = skeleton.flip_order, skeleton.part_flip_order(parts)
    return Mirror(*(np.array(order, np.int32) for order in orders), width)


def _both_views(x: Array, mirror: Mirror | None, mirrored: Callable[[Mirror, Array], Array]):
    """`x` of the images, and with the flip test of the mirrored ones after it."""
    return x if mirror is None else jnp.concatenate([x, mirrored(mirror, x)])


def _average_views(x: Array, mirror: Mirror | None, mirrored: Callable[[Mirror, Array], Array]):
    """`x` of the images, averaged with the flip test over both views of each."""
    if mirror is None:
        return x
    of_images, of_mirrored = jnp.split(x, 2)
    return (of_images + mirrored(mirror, of_mirrored)) / 2


def _propose(
    model: nn.Module,
    variables: Variables,
    maps: Maps,
    centers: Int32[Array, "b s p 2"],
    valid: Bool[Array, "b s p"],
) -> tuple[Float[Array, "b s p k 2"], Float[Array, "b s p k 2"]]:
    """The poses proposed at part centres, and the same refined."""
    proposals = read_poses(maps.offsets, centers)
    if not model.refinement:
        return proposals, proposals
    delta = model.apply(
        variables,
        maps.features,
        join_parts(proposals),
        join_parts(centers),
        join_parts(valid),
        train=False,
        method="refine",
    )
    return proposals, proposals - delta.reshape(proposals.shape)


def _move(found: ScaleCandidates, move: Callable[[Array], Array]) -> ScaleCandidates:
    """All points taken to another frame."""
    return found.replace(
        poses=move(found.poses), proposals=move(found.proposals), centers=move(found.centers)
    )


def onnx_maps(
    model: PINet, variables: Variables, config: ConfigDict, images: UInt8[Array, "b h w 3"]
) -> tuple[Array, Array, Array, Array]:
    """H and P of images, then offsets and features of their views, for export/pinet_onnx.py."""
    maps = view_maps(model, variables, normalise(images), config)
    return *score_maps(maps, config, model.parts), maps.offsets, maps.features


def onnx_delta(
    model: PINet,
    variables: Variables,
    features: Float[Array, "b h w f"],
    poses: Float[Array, "b n k 2"],
    centers: Int32[Array, "b n 2"],
) -> Float[Array, "b n k 2"]:
    """PR's corrections of proposals, for export/pinet_onnx.py."""
    valid = jnp.ones(poses.shape[:2], bool)  # counts in training only
    return model.apply(variables, features, poses, centers, valid, method="refine")
