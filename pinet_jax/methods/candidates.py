"""Candidates, poses that a method proposes in an image, and what finding them has in common.

Fields that a method adds or leaves out are its own matter; suppression, pose fusion and
inspection read these.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int32

from pinet_jax.data import AnyArray


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

    poses: Float[AnyArray, "*b n k 2"]
    proposals: Float[AnyArray, "*b n k 2"]
    centers: Float[AnyArray, "*b n 2"]
    part: Int32[AnyArray, "*b n"]
    part_scores: Float[AnyArray, "*b n"]
    valid: Bool[AnyArray, "*b n"]


@struct.dataclass
class Candidates(ScaleCandidates):
    """Those of all scales, one scale after the other, in image pixels.

    Attributes:
        keypoint_scores: r = r_p * r_k of eq. 11, r_p made comparable between scales;
            0 outside the image and where not valid.
    """

    keypoint_scores: Float[AnyArray, "*b n k"]

    @property
    def heat(self) -> Float[AnyArray, "*b n"]:
        """Mean r_k, so without the part's score; 0 where not valid."""
        return self.keypoint_scores.mean(-1) / jnp.where(self.valid, self.part_scores, 1)


@struct.dataclass
class Evidence:
    """Candidates and what they were read from.

    Attributes:
        keypoint_heatmaps: H of every scale, averaged over the views of the flip test.
        part_heatmaps: P, likewise.
        candidates: of all scales.
    """

    keypoint_heatmaps: tuple[Float[AnyArray, "*b _ _ k"], ...]
    part_heatmaps: tuple[Float[AnyArray, "*b _ _ s"], ...]
    candidates: Candidates


def mirrored_view(images: Float[Array, "b h w 3"], shift: int) -> Float[Array, "b h w 3"]:
    """Mirrored images moved left by `shift` pixels, zeros coming in from the right.

    Released weights expect the shift: it makes up for strided convolutions not being
    symmetric.
    """
    mirrored = images[:, :, ::-1]
    return jnp.pad(mirrored[:, :, shift:], ((0, 0), (0, 0), (0, shift), (0, 0)))


def comparable(
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


def apply_affine(affine: Float[Array, "b 2 3"], points: Float[Array, "b *n 2"]) -> Array:
    """The points of each image in another frame."""
    # No matrix product: accelerators would round coordinates to bfloat16.
    affine = affine.reshape(-1, *(1,) * (points.ndim - 2), 2, 3)
    return (affine[..., :2] * points[..., None, :]).sum(-1) + affine[..., 2]
