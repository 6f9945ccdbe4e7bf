"""The network: HRNet, heatmaps with the centre's, and a branch for the offsets of each keypoint."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones import hrnet
from pinet_jax.backbones.hrnet import BasicBlock, ConvBN, HRNet
from pinet_jax.backbones.layers import Conv, relu
from pinet_jax.config import check_choices
from pinet_jax.methods.dekr.adaptive import AdaptiveBlock, Kernel, sum_of_taps
from pinet_jax.methods.pinet.ppg import Maps

BLOCKS = 2  # adaptive ones a branch


class HeatmapHead(nn.Module):
    """Heatmaps of the keypoints and, as the last channel, of the centre.

    Attributes:
        layer: ConvBN with everything but its shape filled in.
        width: channels before the last convolution.
        num_keypoints: K.
    """

    layer: functools.partial
    width: int
    num_keypoints: int

    @nn.compact
    def __call__(self, features: Float[Array, "b h w f"], train: bool) -> Float[Array, "b h w n"]:
        """K + 1 maps in float32."""
        layer = functools.partial(self.layer, train=train)
        x = relu(layer(self.width, kernel=1, name="transition")(features))
        x = BasicBlock(layer, name="block")(x).astype(jnp.float32)
        return Conv(self.num_keypoints + 1, kernel=1, use_bias=True, name="maps")(x)


class Branch(nn.Module):
    """The offsets of one keypoint, from channels of its own.

    Attributes:
        axis_name: as of AdaptiveBlock.
    """

    axis_name: str | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w 2"]:
        """Offsets (x, y) in float32."""
        for number in range(BLOCKS):
            x = AdaptiveBlock(self.axis_name, name=f"block{number}")(x, train)
        kernel = Kernel(2, side=1, name="offset")(x.shape[-1])
        return sum_of_taps(x[:, :, :, None].astype(jnp.float32), *kernel)


class OffsetHead(nn.Module):
    """Offsets of all keypoints; the branches are one, mapped over stacked parameters.

    Attributes:
        layer: ConvBN with everything but its shape filled in.
        num_keypoints: K.
        channels: of each branch.
    """

    layer: functools.partial
    num_keypoints: int
    channels: int

    @nn.compact
    def __call__(self, features: Float[Array, "b h w f"], train: bool) -> Float[Array, "b h w k 2"]:
        """Offsets (x, y) in heatmap pixels."""
        layer = functools.partial(self.layer, train=train)
        x = relu(layer(self.num_keypoints * self.channels, kernel=1, name="transition")(features))
        x = x.reshape(*x.shape[:3], self.num_keypoints, self.channels)
        branches = nn.vmap(
            Branch,
            in_axes=(3, None),
            out_axes=3,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
        )
        return branches(self.layer.keywords["axis_name"], name="branches")(x, train)


class DEKR(nn.Module):
    """Images to heatmaps, a centre heatmap and the offsets from every pixel to the keypoints.

    Attributes:
        backbone: HRNet; the heatmap head has its width.
        num_keypoints: K.
        keypoint_channels: of each keypoint's offset branch.
    """

    backbone: HRNet
    num_keypoints: int
    keypoint_channels: int

    refinement = False  # of the offsets, as PINet has it

    @property
    def parts(self) -> skeletons.Parts:
        """The whole person, whose centre proposes it."""
        return (tuple(range(self.num_keypoints)),)

    def setup(self):  # noqa: D102 (flax)
        backbone = self.backbone
        layer = functools.partial(
            ConvBN,
            dtype=backbone.dtype,
            conv_init=backbone.conv_init,
            axis_name=backbone.axis_name,
        )
        self.heatmap_head = HeatmapHead(layer, backbone.width, self.num_keypoints)
        self.offset_head = OffsetHead(layer, self.num_keypoints, self.keypoint_channels)

    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> Maps:
        """Maps of normalised images whose sides are multiples of 32; one part, the person."""
        features = self.backbone(images, train)
        heatmaps = self.heatmap_head(features, train)
        return Maps(
            features=features,
            keypoint_heatmaps=heatmaps[..., :-1],
            part_heatmaps=heatmaps[..., -1:],
            offsets=self.offset_head(features, train)[:, :, :, None],
        )

    def init_all(self, images: Float[Array, "b h w 3"]) -> None:
        """Touches every parameter; for `init` only."""
        self(images)


def build(config: ConfigDict) -> DEKR:
    """The network a config describes; UserError on an unknown choice."""
    check_choices(config)
    return DEKR(
        hrnet.build(config), skeletons.of(config).num_keypoints, config.model.keypoint_channels
    )
