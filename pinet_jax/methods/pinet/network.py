"""The whole network: HRNet, PPG and PR."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones import hrnet
from pinet_jax.config import check_choices
from pinet_jax.data import AnyArray
from pinet_jax.methods.pinet.ppg import PPG, Maps
from pinet_jax.methods.pinet.refinement import PR
from pinet_jax.methods.sampling import read_pixels, sample_bilinear
from pinet_jax.runtime import devices


class PINet(nn.Module):
    """Images to pose proposals (`__call__`), and proposals to corrections (`refine`).

    Attributes:
        backbone: images to the feature map F: HRNet.
        num_keypoints: K.
        parts: S tuples of keypoint indices.
        refiner: PR, or None for a model without it.
        sampling: convention of the bilinear reads, see sampling.py.
    """

    backbone: nn.Module
    num_keypoints: int
    parts: skeletons.Parts
    refiner: PR | None
    sampling: str

    @property
    def refinement(self) -> bool:
        """Whether proposals are refined."""
        return self.refiner is not None

    def setup(self):  # noqa: D102 (flax)
        self.ppg = PPG(self.num_keypoints, len(self.parts))

    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> Maps:
        """Maps of normalised images whose sides are multiples of 32."""
        return self.ppg(self.backbone(images, train))

    def refine(
        self,
        features: Float[AnyArray, "b h w f"],
        poses: Float[AnyArray, "b n k 2"],
        centers: Int[AnyArray, "b n 2"],
        valid: Bool[AnyArray, "b n"],
        train: bool = False,
    ) -> Float[Array, "b n k 2"]:
        """Corrections of proposals: refined pose = pose - delta; zeros without PR.

        Args:
            features: F of the images.
            poses: (x, y) in map pixels; no gradient flows into them.
            centers: (x, y) of the pixel that proposed the pose, inside the map.
            valid: proposals that count in the batch statistics.
            train: use and update batch statistics.
        """
        if self.refiner is None:
            return jnp.zeros_like(poses)
        poses = jax.lax.stop_gradient(poses)
        keypoint_features = sample_bilinear(features, poses, self.sampling)
        index = centers[..., 1] * features.shape[2] + centers[..., 0]
        center_features = read_pixels(features, index)
        f32 = jnp.float32
        return self.refiner(
            keypoint_features.astype(f32), center_features.astype(f32), valid, train
        )

    def init_all(self, images: Float[Array, "b h w 3"]) -> None:
        """Touches every parameter; for `init` only."""
        maps = self(images)
        batch = images.shape[0]
        poses = jnp.zeros((batch, 1, self.num_keypoints, 2))
        centers = jnp.zeros((batch, 1, 2), jnp.int32)
        self.refine(maps.features, poses, centers, jnp.ones((batch, 1), bool))


def build(config: ConfigDict) -> PINet:
    """The network a config describes; UserError on an unknown choice."""
    model = config.model
    check_choices(config)
    skeleton = skeletons.of(config)
    axis_name = devices.AXIS if config.bn_sync else None
    refiner = PR(skeleton.num_keypoints, skeleton.limbs, model.graph, model.graph_layers, axis_name)
    return PINet(
        backbone=hrnet.build(config),
        num_keypoints=skeleton.num_keypoints,
        parts=skeleton.parts(model.partition),
        refiner=refiner if model.refinement else None,
        sampling=model.sampling,
    )
