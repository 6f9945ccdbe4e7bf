"""Part-based pose generation (PPG): complete poses from each body part.

PINet eqs. 2, 6 and 12: three 1x1 convolutions on the feature map F.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from pinet_jax.backbones.layers import Conv
from pinet_jax.data import AnyArray


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
    """The three heads.

    Attributes:
        num_keypoints: K.
        num_parts: S.
    """

    num_keypoints: int
    num_parts: int

    @nn.compact
    def __call__(self, features: Float[Array, "b h w f"]) -> Maps:
        """Maps in float32."""
        x = features.astype(jnp.float32)

        def head(channels: int, name: str) -> Array:
            return Conv(channels, kernel=1, use_bias=True, name=name)(x)

        offsets = head(self.num_parts * self.num_keypoints * 2, "offset_head")
        return Maps(
            features=features,
            keypoint_heatmaps=head(self.num_keypoints, "keypoint_head"),
            part_heatmaps=head(self.num_parts, "part_head"),
            offsets=offsets.reshape(*x.shape[:3], self.num_parts, self.num_keypoints, 2),
        )
