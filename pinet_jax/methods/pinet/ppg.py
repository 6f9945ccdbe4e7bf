"""Part-based pose generation (PPG): complete poses from each body part.

PINet eqs. 2, 6 and 12: three 1x1 convolutions of the feature map F.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from pinet_jax.backbones.layers import ConvWeights, convolve
from pinet_jax.data import AnyArray

UNPADDED = ((0, 0), (0, 0))

Parameters = tuple[Float[AnyArray, "1 1 f n"], Float[AnyArray, " n"]]


@struct.dataclass
class Maps:
    """What the network says about an image, at 1/4 of its resolution.

    Attributes:
        features: F, in the dtype of the convolutions.
        keypoint_heatmaps: H, a score a keypoint.
        part_heatmaps: P, a score a part centre.
        offsets: O; the pose from part s at location p is p - offsets[p, s], (x, y).
    """

    features: Float[AnyArray, "*b h w f"]
    keypoint_heatmaps: Float[AnyArray, "*b h w k"]
    part_heatmaps: Float[AnyArray, "*b h w s"]
    offsets: Float[AnyArray, "*b h w s k 2"]


class PPG(nn.Module):
    """The three heads, computed as one convolution: F is large, and is read once.

    Attributes:
        num_keypoints: K.
        num_parts: S.
    """

    num_keypoints: int
    num_parts: int

    @nn.compact
    def __call__(self, features: Float[Array, "b h w f"]) -> Maps:
        """Maps in float32."""
        channels = {
            "offset_head": self.num_parts * self.num_keypoints * 2,
            "keypoint_head": self.num_keypoints,
            "part_head": self.num_parts,
        }
        heads = [Head(n, name=name)(features.shape[-1]) for name, n in channels.items()]
        kernel, bias = (jnp.concatenate(arrays, -1) for arrays in zip(*heads, strict=True))
        maps = convolve(features.astype(jnp.float32), kernel, (1, 1), UNPADDED) + bias
        ends = np.cumsum(list(channels.values()))[:-1]
        offsets, keypoint_heatmaps, part_heatmaps = jnp.split(maps, ends, axis=-1)
        return Maps(
            features=features,
            keypoint_heatmaps=keypoint_heatmaps,
            part_heatmaps=part_heatmaps,
            offsets=offsets.reshape(*maps.shape[:3], self.num_parts, self.num_keypoints, 2),
        )


class Head(nn.Module):
    """Kernel and bias of one head, where a convolution of its own would have them."""

    channels: int

    @nn.compact
    def __call__(self, inputs: int) -> Parameters:
        """Of maps with so many channels."""
        return ConvWeights(self.channels, kernel=1, use_bias=True, name="conv")(inputs)
