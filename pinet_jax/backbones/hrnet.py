"""HRNet (Sun et al., CVPR 2019): parallel branches that keep a fine resolution.

Widths 18, 32, 48 and the tiny ones of the tests are configurations of one class.
Submodule names follow the published PyTorch code, so that its weights map one to
one. Maps are NHWC; branch i has width * 2^i channels at 1/(4 * 2^i) resolution.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from pinet_jax.backbones.layers import CONV_INITS, BatchNorm, Conv, relu
from pinet_jax.data import AnyArray
from pinet_jax.runtime import devices

HEATMAP_STRIDE = 4  # input pixels a pixel of F: the stem's two stride-2 convolutions
NETWORK_STRIDE = 32  # of the coarsest branch; inputs must be multiples of it

# ImageNet statistics of RGB in [0, 1], which the released backbone was trained with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Map = Float[Array, "b h w c"]
EXPANSION = 4  # of a bottleneck's channels


def normalise(image: UInt8[AnyArray, "*b h w 3"]) -> Float[Array, "*b h w 3"]:
    """RGB in 0..255 to float32 with ImageNet's mean 0 and deviation 1 a channel."""
    return (image.astype(jnp.float32) / 255 - jnp.array(MEAN)) / jnp.array(STD)


class HRNet(nn.Module):
    """Image to the concatenated 1/4-resolution feature map F.

    Attributes:
        width: channels of the finest branch.
        stem_width: channels of the stem and of the bottlenecks' inner convolutions.
        bottlenecks: number of bottlenecks in stage 1.
        modules: number of modules in stages 2, 3 and 4.
        blocks: residual blocks a branch of a module.
        conv_init: key of layers.CONV_INITS.
        dtype: of the convolutions.
        axis_name: mapped axis for global batch statistics, or None.
    """

    width: int = 32
    stem_width: int = 64
    bottlenecks: int = 4
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    conv_init: str = "released"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @property
    def channels(self) -> int:
        """Of F, all branches together."""
        return self.width * 15

    @nn.compact
    def __call__(
        self, image: Float[Array, "b h w 3"], train: bool = False
    ) -> Float[Array, "b h4 w4 f"]:
        """F with width * 15 channels at 1/4 of the (multiple of 32) image size."""
        layer = self._layer(train)
        x = relu(layer(self.stem_width, stride=2, name="stem1")(image.astype(self.dtype)))
        x = relu(layer(self.stem_width, stride=2, name="stem2")(x))
        for i in range(self.bottlenecks):
            x = Bottleneck(layer, self.stem_width, name=f"layer1_{i}")(x)
        branches = [x]
        for stage, modules in enumerate(self.modules, start=2):
            branches = self._transition(layer, stage, branches)
            for i in range(modules):
                branches = FusedBranches(layer, self.blocks, name=f"stage{stage}_{i}")(branches)
        finest = branches[0].shape
        return jnp.concatenate([_resize(branch, finest[1:3]) for branch in branches], -1)

    def _layer(self, train: bool) -> functools.partial:
        """ConvBN with everything but its shape filled in."""
        return functools.partial(
            ConvBN,
            dtype=self.dtype,
            conv_init=self.conv_init,
            axis_name=self.axis_name,
            train=train,
        )

    def _transition(self, layer: functools.partial, stage: int, branches: list) -> list:
        """The stage's branches: old ones adapted in width, one new at half resolution."""
        widths = [self.width * 2**i for i in range(stage)]
        new = []
        for i, width in enumerate(widths):
            name = f"transition{stage - 1}_{i}"
            if i >= len(branches):
                new.append(relu(layer(width, stride=2, name=name)(branches[-1])))
            elif branches[i].shape[-1] != width or stage == 2:
                new.append(relu(layer(width, name=name)(branches[i])))
            else:
                new.append(branches[i])
        return new


def build(config: ConfigDict) -> HRNet:
    """The backbone a config describes, its choices checked."""
    model = config.model
    return HRNet(
        width=model.width,
        stem_width=model.stem_width,
        bottlenecks=model.bottlenecks,
        modules=tuple(model.modules),
        blocks=model.blocks,
        conv_init=model.conv_init,
        dtype=jnp.dtype(config.dtype),
        axis_name=devices.AXIS if config.bn_sync else None,
    )


class ConvBN(nn.Module):
    """Convolution without bias, then batch normalisation."""

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: DTypeLike = jnp.float32
    conv_init: str = "released"
    axis_name: str | None = None
    train: bool = False

    @nn.compact
    def __call__(self, x: Map) -> Float[Array, "b h2 w2 f"]:
        """No activation."""
        init = CONV_INITS[self.conv_init]
        x = Conv(self.features, self.kernel, self.stride, self.dtype, kernel_init=init)(x)
        return BatchNorm(self.axis_name)(x, self.train)


class Bottleneck(nn.Module):
    """Residual 1x1, 3x3, 1x1 block; a projection where the channels change."""

    layer: functools.partial
    features: int

    @nn.compact
    def __call__(self, x: Map) -> Float[Array, "b h w f"]:
        """EXPANSION * features channels."""
        y = relu(self.layer(self.features, kernel=1, name="conv1")(x))
        y = relu(self.layer(self.features, name="conv2")(y))
        y = self.layer(self.features * EXPANSION, kernel=1, name="conv3")(y)
        if x.shape[-1] != y.shape[-1]:
            x = self.layer(self.features * EXPANSION, kernel=1, name="downsample")(x)
        return relu(x + y)


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions."""

    layer: functools.partial

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """As many channels as x."""
        y = relu(self.layer(x.shape[-1], name="conv1")(x))
        return relu(x + self.layer(x.shape[-1], name="conv2")(y))


class FusedBranches(nn.Module):
    """One HRNet module: residual blocks a branch, then every branch to every branch."""

    layer: functools.partial
    blocks: int

    @nn.compact
    def __call__(self, branches: list) -> list:
        """Maps of the same shapes."""
        for i, branch in enumerate(branches):
            for block in range(self.blocks):
                branch = BasicBlock(self.layer, name=f"branch{i}_{block}")(branch)
            branches = [*branches[:i], branch, *branches[i + 1 :]]
        return [relu(self._fuse(branches, i)) for i in range(len(branches))]

    def _fuse(self, branches: list, to: int) -> Map:
        """Sum of all branches brought to the shape of branch `to`."""
        terms = (self._bring(branches, source, to) for source in range(len(branches)))
        return functools.reduce(jnp.add, terms)

    def _bring(self, branches: list, source: int, to: int) -> Map:
        x, target = branches[source], branches[to]
        if source > to:
            x = self.layer(target.shape[-1], kernel=1, name=f"fuse{to}_{source}")(x)
            return _upsample_nearest(x, 2 ** (source - to))
        for step in range(to - source):
            last = step == to - source - 1
            features = target.shape[-1] if last else x.shape[-1]
            x = self.layer(features, stride=2, name=f"fuse{to}_{source}_{step}")(x)
            x = x if last else relu(x)
        return x


def _upsample_nearest(x: Map, factor: int) -> Float[Array, "b h2 w2 c"]:
    return x.repeat(factor, axis=1).repeat(factor, axis=2)


def _resize(x: Map, size: tuple[int, int]) -> Float[Array, "b h2 w2 c"]:
    """Bilinear with half-pixel centres."""
    if x.shape[1:3] == size:
        return x
    shape = (x.shape[0], *size, x.shape[-1])
    return jax.image.resize(x, shape, "bilinear", antialias=False)
