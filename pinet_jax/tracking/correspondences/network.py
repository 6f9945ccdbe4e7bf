"""The correspondence network: siamese features, affinity, refinement (TRACKING.md, section 1).

F of an image has 32 channels at stride 4: of a small network of its own, or read off the map of
a model's backbone (config.tracking.features). A query is a 3x3 window of one image's F; its
affinity A with another image's is a softmax over that image's cells. The refinement looks at both
images' F and at the A of all the joints of one person, and says for each cell how surely the
joint is there: R. Unlike A it can say that a joint is nowhere.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones import hrnet, initializers
from pinet_jax.backbones.hrnet import BasicBlock, ConvBN
from pinet_jax.backbones.layers import BatchNorm, Conv, relu
from pinet_jax.tracking.correspondences.affinity import (
    STRIDE,
    TAPS,
    normalise,
    over_cells,
    similarity,
)

CHANNELS = 32  # of F
_COARSE = (48, 64)  # channels of the features at strides 8 and 16
_BLOCKS = (1, 2, 1)  # residual blocks at strides 4, 8, 16
_START_SCALE = 20.0  # of the mean similarity, before the softmax
_CONTRAST = 1000.0  # what A is multiplied by before its logarithm, for the refinement
_RARE = -6.0  # logit of R where A is 0, at the start: 9 of 4096 cells
_START_GAIN = 8.0  # of that logit where A is 1

_HE = initializers.scaled_normal(2.0, "in")
_SMALL = initializers.normal(0.01)

Map = Float[Array, "b h w c"]
OtherMap = Float[Array, "b h2 w2 f"]  # another size and number of channels


class Features(nn.Module):
    """A small residual network: down to stride 16 and up again to stride 4."""

    @nn.compact
    def __call__(self, images: Real[Array, "b h w 3"], train: bool = False) -> OtherMap:
        """32 channels at stride 4 of RGB images, 0 to 255, whose sides are multiples of 16."""
        layer = functools.partial(ConvBN, conv_init="he", train=train)
        x = images.astype(jnp.float32) / 255
        x = relu(layer(CHANNELS // 2, stride=2, name="stem1")(x))
        x = relu(layer(CHANNELS, stride=2, name="stem2")(x))
        levels = [_residual(layer, x, 0)]
        for depth, channels in enumerate(_COARSE, start=1):
            x = relu(layer(channels, stride=2, name=f"down{depth}")(levels[-1]))
            levels.append(_residual(layer, x, depth))
        x = levels[-1]
        for depth in reversed(range(len(_COARSE))):
            x = layer(levels[depth].shape[-1], kernel=1, name=f"up{depth}")(x)
            x = relu(levels[depth] + _upsample(x))
        return Conv(CHANNELS, kernel_init=_HE, name="out")(x)


class Projection(nn.Module):
    """F read off the map of a model's backbone, which stays as it is."""

    @nn.compact
    def __call__(self, maps: Map, train: bool = False) -> OtherMap:
        """32 channels."""
        return Conv(CHANNELS, kernel=1, kernel_init=_HE, name="out")(maps.astype(jnp.float32))


class Context(nn.Module):
    """What an image alone adds to the refinement's first convolution: once an image."""

    @nn.compact
    def __call__(self, features: Map) -> tuple[OtherMap, OtherMap]:
        """At stride 8, of F as the image with the queries and as the one that is searched."""
        return tuple(
            Conv(CHANNELS, stride=2, kernel_init=_HE, name=name)(features)
            for name in ("of_a", "of_b")
        )


class Refinement(nn.Module):
    """Encoder-decoder of [F_a, F_b, A_1 ... A_K], two stages down and up again.

    A convolution of all three is the sum of one of each; `Context` has those of F_a and F_b.
    A goes in as a logarithm, 0 for 0: its values span many orders of magnitude. R starts as
    what A says, and is rare.

    Attributes:
        num_keypoints: K.
    """

    num_keypoints: int

    @nn.compact
    def __call__(
        self,
        as_a: Float[Array, "t h2 w2 f"],
        as_b: Float[Array, "#t h2 w2 f"],
        affinity: Float[Array, "t k h w"],
        train: bool = False,
    ) -> Float[Array, "t k h w"]:
        """Logits of R.

        Args:
            as_a: `Context` of the image with each person's queries.
            as_b: of the image that is searched, one for all or one a person.
            affinity: A of each person's joints.
            train: use and update batch statistics.
        """
        layer = functools.partial(ConvBN, conv_init="he", train=train)
        maps = jnp.moveaxis(affinity, 1, -1)
        maps = jnp.log1p(_CONTRAST * maps) / jnp.log1p(_CONTRAST)
        first = as_a + as_b + Conv(CHANNELS, stride=2, kernel_init=_HE, name="of_affinity")(maps)
        first = relu(BatchNorm(name="norm")(first, train))
        deep = relu(layer(_COARSE[0], stride=2, name="down")(first))
        deep = relu(layer(_COARSE[0], name="deep")(deep))
        x = relu(first + _upsample(layer(CHANNELS, kernel=1, name="up")(deep)))
        x = relu(layer(CHANNELS // 2, name="join")(x))
        x = jnp.concatenate([_upsample(x), maps], axis=-1)
        x = relu(layer(CHANNELS, kernel=1, name="mix")(x))
        out = Conv(self.num_keypoints, kernel=1, kernel_init=_SMALL, name="out")
        offset = self.param("offset", initializers.constant(_RARE), (self.num_keypoints,))
        gain = self.param("gain", initializers.constant(_START_GAIN), (self.num_keypoints,))
        return jnp.moveaxis(out(x) + gain * maps + offset, -1, 1)


class CorrespondenceNet(nn.Module):
    """The parts, and how they work together.

    Attributes:
        num_keypoints: K.
        normalisation: config.tracking.normalise.
        shared_channels: of the backbone's map that F is read off; 0: F is the network's own.
    """

    num_keypoints: int
    normalisation: str
    shared_channels: int = 0

    def setup(self):  # noqa: D102 (flax)
        self.features = Projection() if self.shared_channels else Features()
        self.context = Context()
        self.refinement = Refinement(self.num_keypoints)
        self.scale = self.param("scale", initializers.constant(_START_SCALE), ())

    def describe(self, seen: Real[Array, "b h w c"], train: bool = False) -> OtherMap:
        """Normalised F of what is seen of images: RGB, 0 to 255, or the backbone's map."""
        return normalise(self.features(seen, train), self.normalisation)

    def logits(
        self, queries: Float[Array, "*b q n"], features: Float[Array, "*b h w c"]
    ) -> Float[Array, "*b q h w"]:
        """What the affinity is the softmax of: similarities of query windows to a map."""
        similar = similarity(queries, features)
        return similar if self.normalisation == "released" else self.scale / TAPS * similar

    def affinity(
        self, queries: Float[Array, "t k n"], features: Float[Array, "h w c"]
    ) -> Float[Array, "t k h w"]:
        """A of some persons' joints; zeros where a query is nothing but zeros."""
        there = jnp.any(queries != 0, axis=-1)[..., None, None]
        count, joints = queries.shape[:2]
        logits = self.logits(queries.reshape(count * joints, -1), features)
        maps = over_cells(logits).reshape(count, joints, *logits.shape[1:])
        return jnp.where(there, maps, 0)

    def contexts(self, features: Map) -> tuple[OtherMap, OtherMap]:
        """What F adds to the refinement as F_a and as F_b."""
        return self.context(features)

    def refine(
        self,
        as_a: Float[Array, "t h2 w2 f"],
        as_b: Float[Array, "#t h2 w2 f"],
        affinity: Float[Array, "t k h w"],
        train: bool = False,
    ) -> Float[Array, "t k h w"]:
        """Logits of R; see `Refinement`."""
        return self.refinement(as_a, as_b, affinity, train)

    def init_all(self, images: Real[Array, "b h w 3"]) -> None:
        """Touches every parameter; for `init` only."""
        seen = images
        if self.shared_channels:
            height, width = (side // STRIDE for side in images.shape[1:3])
            seen = jnp.zeros((len(images), height, width, self.shared_channels))
        features = self.describe(seen)
        as_a, as_b = self.contexts(features)
        shape = features.shape
        self.refine(as_a, as_b, jnp.zeros((shape[0], self.num_keypoints, *shape[1:3])))


def build(config: ConfigDict) -> CorrespondenceNet:
    """The network that config.tracking and the skeleton of the config describe."""
    return of_joints(config, skeletons.of(config).num_keypoints)


def of_joints(config: ConfigDict, num_keypoints: int) -> CorrespondenceNet:
    """The network that config.tracking describes, its refinement of so many joints."""
    shared = config.tracking.features == "shared"
    channels = hrnet.build(config).channels if shared else 0
    return CorrespondenceNet(num_keypoints, config.tracking.normalise, channels)


def _residual(layer: functools.partial, x: Map, depth: int) -> Map:
    for block in range(_BLOCKS[depth]):
        x = BasicBlock(layer, name=f"level{depth}_{block}")(x)
    return x


def _upsample(x: Map) -> OtherMap:
    """To twice the size, bilinear."""
    shape = (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], x.shape[3])
    return jax.image.resize(x, shape, "bilinear")
