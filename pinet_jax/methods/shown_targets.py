"""Training targets as pictures show them, whatever the method calls its own."""

from flax import struct
from jaxtyping import Float

from pinet_jax.data import AnyArray


@struct.dataclass
class ShownTargets:
    """What the maps of images should be; persons and parts as in the batch and the method.

    Attributes:
        keypoint_heatmaps: in [0, 1], one channel a keypoint.
        part_heatmaps: in [0, 1], one channel a part.
        centers: x, y in input pixels of each person's parts, and 1 where there is a centre.
        offsets: pixel minus keypoint, (x, y) in heatmap pixels, of the pixels of each part;
            None of a method that regresses none.
        offset_weights: of the offsets; 0 where there is none.
        person_heatmaps: the highest of the heatmaps that are of one person alone; 0 for a person
            without, None of a method without.
    """

    keypoint_heatmaps: Float[AnyArray, "*b h w k"]
    part_heatmaps: Float[AnyArray, "*b h w s"]
    centers: Float[AnyArray, "*b p s 3"]
    offsets: Float[AnyArray, "*b h w s k 2"] | None
    offset_weights: Float[AnyArray, "*b h w s k"] | None
    person_heatmaps: Float[AnyArray, "*b p h w"] | None = None
