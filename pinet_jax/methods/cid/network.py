"""The whole network: HRNet, a heatmap of all people, and a heatmap of one person at a time.

CID's names: IIA (instance information abstraction) finds the people and reads a vector f of
each, GFD (global feature decoupling) turns the features of the image into that person's.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones import hrnet, initializers
from pinet_jax.backbones.layers import RELEASED_CONV_INIT, Conv
from pinet_jax.config import check_choices
from pinet_jax.data import AnyArray

FIRST_SCORE = 0.01  # of every heatmap pixel of an untrained network
LEAST_SCORE = 1e-4  # of a heatmap pixel; the largest is as far from 1
SPATIAL_KERNEL = 5  # pixels, of the spatial attention
INITS = {  # of what GFD multiplies; as small as released it takes long to come to life
    "released": RELEASED_CONV_INIT,
    "he": initializers.scaled_normal(1.0, "in"),
}


@struct.dataclass
class Maps:
    """What the network says about images, at 1/4 of their resolution.

    Attributes:
        features: F, in the dtype of the convolutions.
        heatmaps: a score a keypoint of anybody, and last the score of a centre.
        reduced: G, F in few channels, of which each instance's heatmaps are made.
    """

    features: Float[AnyArray, "b h w f"]
    heatmaps: Float[AnyArray, "b h w n"]
    reduced: Float[AnyArray, "b h w c"]


def scores(logits: Float[AnyArray, "*n"]) -> Float[Array, "*n"]:
    """Sigmoid, kept away from 0 and 1."""
    return jnp.clip(jax.nn.sigmoid(logits), LEAST_SCORE, 1 - LEAST_SCORE)


def _heatmap_head(channels: int, name: str | None = None) -> Conv:
    bias = initializers.constant(math.log(FIRST_SCORE / (1 - FIRST_SCORE)))
    return Conv(channels, kernel=1, use_bias=True, bias_init=bias, name=name)


class IIA(nn.Module):
    """Keypoints and centres of everybody.

    Attributes:
        num_keypoints: K.
    """

    num_keypoints: int

    @nn.compact
    def __call__(self, features: Float[AnyArray, "b h w f"]) -> Float[Array, "b h w n"]:
        """Scores in float32, the centre's last."""
        return scores(_heatmap_head(self.num_keypoints + 1, "heatmaps")(features))


class GFD(nn.Module):
    """Heatmaps of one instance: G weighed by channel and by pixel, as f asks for.

    Attributes:
        num_keypoints: K.
        channels: of G.
        reach: distance from the centre, in heatmap pixels, that reads as 1.
        conv_init: key of INITS.
    """

    num_keypoints: int
    channels: int
    reach: float
    conv_init: str

    def setup(self):  # noqa: D102 (flax)
        init = INITS[self.conv_init]

        def conv(features: int, kernel: int) -> Conv:
            return Conv(features, kernel, use_bias=True, kernel_init=init)

        dense = functools.partial(nn.Dense, kernel_init=init, bias_init=initializers.zeros)
        self.reduction = conv(self.channels, 1)
        self.channel_attention = dense(self.channels)
        self.pixel_attention = dense(self.channels)
        self.spatial_attention = conv(1, SPATIAL_KERNEL)
        self.fusion = conv(self.channels, 1)
        self.heatmaps = _heatmap_head(self.num_keypoints)

    def reduce(self, features: Float[AnyArray, "b h w f"]) -> Float[Array, "b h w c"]:
        """G of images."""
        return self.reduction(features)

    def __call__(
        self,
        reduced: Float[AnyArray, "n h w c"],
        instances: Float[AnyArray, "n f"],
        centers: Int[AnyArray, "n 2"],
    ) -> Float[Array, "n h w k"]:
        """Scores of each instance's keypoints.

        Args:
            reduced: G of the image that the instance is in.
            instances: f, F at its centre.
            centers: (x, y) of that pixel.
        """
        by_channel = reduced * self.channel_attention(instances)[:, None, None]
        asked = (reduced * self.pixel_attention(instances)[:, None, None]).sum(-1, keepdims=True)
        towards = _towards(centers, reduced.shape[1:3]) / self.reach
        mask = self.spatial_attention(jnp.concatenate([asked, towards], -1))
        by_pixel = reduced * jax.nn.sigmoid(mask)
        own = nn.relu(self.fusion(jnp.concatenate([by_channel, by_pixel], -1)))
        return scores(self.heatmaps(own))


def _towards(centers: Int[AnyArray, "n 2"], size: tuple[int, int]) -> Float[Array, "n h w 2"]:
    """(x, y) from each pixel of a map to the centres."""
    height, width = size
    pixel = jnp.stack(jnp.meshgrid(jnp.arange(width), jnp.arange(height)), -1)
    return (centers[:, None, None] - pixel).astype(jnp.float32)


class CID(nn.Module):
    """Images to heatmaps of everybody (`__call__`), and to those of one person (`instances`).

    Attributes:
        backbone: HRNet.
        num_keypoints: K.
        channels: of G.
        reach: distance from the centre, in heatmap pixels, that reads as 1.
        conv_init: key of INITS.
    """

    backbone: nn.Module
    num_keypoints: int
    channels: int
    reach: float
    conv_init: str

    def setup(self):  # noqa: D102 (flax)
        self.iia = IIA(self.num_keypoints)
        self.gfd = GFD(self.num_keypoints, self.channels, self.reach, self.conv_init)

    def __call__(self, images: Float[AnyArray, "b h w 3"], train: bool = False) -> Maps:
        """Maps of normalised images whose sides are multiples of 32."""
        return self.heads(self.see(images, train))

    def see(
        self, images: Float[AnyArray, "b h w 3"], train: bool = False
    ) -> Float[Array, "b h4 w4 f"]:
        """F of normalised images."""
        return self.backbone(images, train)

    def heads(self, features: Float[AnyArray, "b h w f"]) -> Maps:
        """Maps of features."""
        x = features.astype(jnp.float32)
        return Maps(features, self.iia(x), self.gfd.reduce(x))

    def instances(
        self,
        reduced: Float[AnyArray, "n h w c"],
        instances: Float[AnyArray, "n f"],
        centers: Int[AnyArray, "n 2"],
    ) -> Float[Array, "n h w k"]:
        """Heatmaps of one person each, arguments as of `GFD`."""
        return self.gfd(reduced, instances.astype(jnp.float32), centers)

    def init_all(self, images: Float[AnyArray, "b h w 3"]) -> None:
        """Touches every parameter; for `init` only."""
        maps = self(images)
        centers = jnp.zeros((len(images), 2), jnp.int32)
        self.instances(maps.reduced, maps.features[:, 0, 0], centers)


def build(config: ConfigDict) -> CID:
    """The network a config describes; UserError on an unknown choice."""
    check_choices(config)
    model = config.model
    return CID(
        backbone=hrnet.build(config),
        num_keypoints=skeletons.of(config).num_keypoints,
        channels=model.instance_channels,
        reach=model.instance_reach,
        conv_init=model.conv_init,
    )
