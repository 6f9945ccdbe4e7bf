"""The whole prediction: batches of images to people, one program of static shapes.

Follows the released test procedure: flip test, several scales, refinement,
suppression and pose fusion.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int32, Shaped, UInt8
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE, normalise
from pinet_jax.inference.fusion import AnyArray, People, join
from pinet_jax.methods.pinet.decoding import find_peaks, keypoint_scores, read_poses
from pinet_jax.methods.pinet.network import PINet
from pinet_jax.methods.pinet.ppg import Maps

__all__ = ["Candidates", "People", "candidates", "predict"]

Variables = Mapping[str, Any]


@struct.dataclass
class ScaleCandidates:
    """Poses before suppression, by part, then by falling part score.

    Attributes:
        poses: (x, y), refined.
        proposals: (x, y), as the part proposed them.
        centers: (x, y) of the part centres.
        part: index of the part that proposed the pose.
        part_scores: r_p of eq. 11; 0 where not valid.
        valid: whether there is a candidate.
    """

    poses: Float[AnyArray, "b n k 2"]
    proposals: Float[AnyArray, "b n k 2"]
    centers: Float[AnyArray, "b n 2"]
    part: Int32[AnyArray, "b n"]
    part_scores: Float[AnyArray, "b n"]
    valid: Bool[AnyArray, "b n"]


@struct.dataclass
class Candidates(ScaleCandidates):
    """Those of all scales, one scale after the other, in image pixels.

    Attributes:
        keypoint_scores: r = r_p * r_k of eq. 11, r_p made comparable between scales;
            0 outside the image and where not valid.
    """

    keypoint_scores: Float[AnyArray, "b n k"]


def predict(
    model: PINet,
    variables: Variables,
    images: tuple[UInt8[Array, "b _ _ 3"], ...],
    to_image: Float[Array, "b 2 3"],
    config: ConfigDict,
) -> People:
    """The people of a batch of images of one size; pure, to be jitted.

    Args:
        model: as built from the config.
        variables: {"params", "batch_stats"}.
        images: network inputs, one array a scale of config.eval.scales.
        to_image: affine maps from network-input pixels of scale 1 to image pixels.
        config: its `eval` part says how.
    """
    return join_people(candidates(model, variables, images, to_image, config), config)[0]


def join_people(found: Candidates, config: ConfigDict) -> tuple[People, Int32[Array, "b n"]]:
    """The people that candidates make, and which of them each became part of (`fusion.join`)."""
    return join(
        found.poses,
        found.keypoint_scores,
        found.valid,
        skeletons.of(config).sigmas,
        config.eval.oks_threshold,
        config.eval.pose_fusion,
    )


def candidates(
    model: PINet,
    variables: Variables,
    images: tuple[UInt8[Array, "b _ _ 3"], ...],
    to_image: Float[Array, "b 2 3"],
    config: ConfigDict,
) -> Candidates:
    """All scored poses before suppression; arguments as of `predict`."""
    scales = tuple(config.eval.scales)
    heatmaps, found = zip(
        *(one_scale(model, variables, normalise(image), config) for image in images), strict=True
    )
    found = _comparable(found, scales, config.eval.scale_decrease)
    found = [
        _move(f, lambda p, s=s: p * HEATMAP_STRIDE / s) for f, s in zip(found, scales, strict=True)
    ]
    found = jax.tree.map(lambda *arrays: jnp.concatenate(arrays, 1), *found)
    size = tuple(round(side / scales[0]) for side in images[0].shape[1:3])
    r_k = keypoint_scores(heatmaps, scales, found.poses, size)
    found = _move(found, lambda p: _apply_affine(to_image, p))
    return Candidates(keypoint_scores=r_k * found.part_scores[..., None], **vars(found))


def one_scale(
    model: PINet, variables: Variables, images: Float[Array, "b h w 3"], config: ConfigDict
) -> tuple[Float[Array, "b h/4 w/4 k"], ScaleCandidates]:
    """Keypoint heatmaps and candidates of normalised images of one scale.

    With the flip test each image is also seen mirrored. Both views' heatmaps are
    averaged and searched for peaks; each view then reads and refines its own poses
    at these, and the two versions of a pose are averaged. What is a left part in one
    view is a right one in the other.
    """
    maps = view_maps(model, variables, images, config)
    heatmaps, part_heatmaps = score_maps(maps, config)
    peaks = find_peaks(part_heatmaps, config.eval.max_peaks, config.eval.peak_threshold)
    mirror = mirror_of(config, heatmaps.shape[2])
    centers = _both_views(peaks.centers, mirror, Mirror.centers)
    valid = _both_views(peaks.valid, mirror, Mirror.of_parts)
    proposals, poses = (
        _average_views(poses, mirror, Mirror.poses)
        for poses in _propose(model, variables, maps, centers, valid)
    )
    part = jnp.broadcast_to(jnp.arange(peaks.valid.shape[1])[:, None], peaks.valid.shape)
    return heatmaps, ScaleCandidates(
        poses=_join_parts(poses),
        proposals=_join_parts(proposals),
        centers=_join_parts(peaks.centers).astype(poses.dtype),
        part=_join_parts(part),
        part_scores=_join_parts(peaks.scores),
        valid=_join_parts(peaks.valid),
    )


def view_maps(
    model: PINet, variables: Variables, images: Float[Array, "b h w 3"], config: ConfigDict
) -> Maps:
    """Maps of normalised images and, with the flip test, of the mirrored ones after them."""
    if config.eval.flip:
        images = jnp.concatenate([images, mirrored_view(images, config.eval.flip_shift)])
    return model.apply(variables, images, train=False)


def score_maps(
    maps: Maps, config: ConfigDict
) -> tuple[Float[Array, "b h w k"], Float[Array, "b h w s"]]:
    """H and P, averaged over the views that `view_maps` gives."""
    mirror = mirror_of(config, maps.part_heatmaps.shape[2])
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


def check_flip(config: ConfigDict) -> None:
    """UserError if the flip test is on and the mirror image of some part is no part."""
    mirror_of(config, width=1)


def mirror_of(config: ConfigDict, width: int) -> Mirror | None:
    """How the flip test mirrors maps of `width` pixels; None without the test."""
    if not config.eval.flip:
        return None
    skeleton = skeletons.of(config)
    orders = skeleton.flip_order, skeleton.part_flip_order(config.model.partition)
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
    model: PINet,
    variables: Variables,
    maps: Maps,
    centers: Int32[Array, "b s p 2"],
    valid: Bool[Array, "b s p"],
) -> tuple[Float[Array, "b s p k 2"], Float[Array, "b s p k 2"]]:
    """The poses proposed at part centres, and the same refined."""
    proposals = read_poses(maps.offsets, centers)
    delta = model.apply(
        variables,
        maps.features,
        _join_parts(proposals),
        _join_parts(centers),
        _join_parts(valid),
        train=False,
        method="refine",
    )
    return proposals, proposals - delta.reshape(proposals.shape)


def mirrored_view(images: Float[Array, "b h w 3"], shift: int) -> Float[Array, "b h w 3"]:
    """Mirrored images moved left by `shift` pixels, zeros coming in from the right.

    Released weights expect the shift: it makes up for strided convolutions not being
    symmetric.
    """
    mirrored = images[:, :, ::-1]
    return jnp.pad(mirrored[:, :, shift:], ((0, 0), (0, 0), (0, shift), (0, 0)))


def _join_parts(x: Array) -> Array:
    """[b, s, p, ...] to [b, s * p, ...]."""
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def _comparable(
    found: Sequence[ScaleCandidates], scales: tuple[float, ...], decrease: float
) -> list[ScaleCandidates]:
    """Part scores of each scale, their largest brought to the largest of scale 1.

    An image without a peak at scale 1, or a test without scale 1, counts as 1 there.
    """
    largest = [
        jnp.where(f.valid.any(-1, keepdims=True), f.part_scores.max(-1, keepdims=True), 1)
        for f in found
    ]
    at_one = largest[scales.index(1)] if 1 in scales else 1
    return [
        f if scale == 1 else f.replace(part_scores=f.part_scores / top * at_one * decrease)
        for f, top, scale in zip(found, largest, scales, strict=True)
    ]


def _move(found: ScaleCandidates, move: Callable[[Array], Array]) -> ScaleCandidates:
    """All points taken to another frame."""
    return found.replace(
        poses=move(found.poses), proposals=move(found.proposals), centers=move(found.centers)
    )


def _apply_affine(affine: Float[Array, "b 2 3"], points: Float[Array, "b *n 2"]) -> Array:
    # No matrix product: accelerators would round coordinates to bfloat16.
    affine = affine.reshape(-1, *(1,) * (points.ndim - 2), 2, 3)
    return (affine[..., :2] * points[..., None, :]).sum(-1) + affine[..., 2]
