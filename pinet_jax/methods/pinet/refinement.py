"""Pose refinement (PR): a graph network over a proposal's keypoints.

PINet eqs. 3 and 9. All graph blocks share one adjacency A, trainable by default.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from pinet_jax.backbones import initializers
from pinet_jax.backbones.layers import BatchNorm
from pinet_jax.data import AnyArray

GRAPH_INIT = initializers.scaled_uniform(1.414**2, "avg")

Nodes = Float[AnyArray, "b n k f"]


def join_parts(x: Shaped[Array, "b s p *rest"]) -> Shaped[Array, "b n *rest"]:
    """The proposals of all parts as one list, which PR takes, one part after the other."""
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def skeleton_adjacency(limbs: tuple[tuple[int, int], ...], num_keypoints: int) -> np.ndarray:
    """D^-1/2 (I + skeleton) D^-1/2, float32 [K, K]."""
    adjacency = np.eye(num_keypoints)
    for a, b in limbs:
        adjacency[a, b] = adjacency[b, a] = 1
    scale = 1 / np.sqrt(adjacency.sum(1))
    return (scale[:, None] * adjacency * scale).astype(np.float32)


def uniform_init(fan_in: int) -> initializers.Initializer:
    """Uniform within 1 / sqrt(fan_in) of 0: where PyTorch's linear layers start."""
    return initializers.uniform(fan_in**-0.5)


class PR(nn.Module):
    """Proposals' features to the correction of their keypoints.

    Attributes:
        num_keypoints: K.
        limbs: skeleton edges that the adjacency starts from.
        graph: "dynamic" (A is trained), "static" (A stays), "none" (no mixing).
        num_layers: residual graph blocks after the input block.
        axis_name: mapped axis for global batch statistics, or None.
    """

    num_keypoints: int
    limbs: tuple[tuple[int, int], ...]
    graph: str = "dynamic"
    num_layers: int = 2
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        keypoint_features: Nodes,
        center_features: Float[AnyArray, "b n f"],
        valid: Bool[AnyArray, "b n"],
        train: bool = False,
    ) -> Float[Array, "b n k 2"]:
        """The delta of each proposal: refined pose = pose - delta, (x, y) map pixels.

        Proposals that are not `valid` leave the batch statistics untouched.
        """
        adjacency = self._adjacency()
        channels = keypoint_features.shape[-1]

        def block(x: Nodes, name: str) -> Nodes:
            return GraphBlock(channels, self.axis_name, name=name)(x, adjacency, valid, train)

        def dense(x: Array, features: int, name: str) -> Array:
            init = uniform_init(x.shape[-1])
            return nn.Dense(features, kernel_init=init, bias_init=init, name=name)(x)

        x = block(keypoint_features, "input")
        for i in range(self.num_layers):
            x = x + block(block(x, f"layer{i}_1"), f"layer{i}_2")
        pooled = jnp.concatenate([x.mean(2), x.max(2), center_features], -1)
        x = dense(pooled, channels, "hidden")
        x = nn.relu(BatchNorm(self.axis_name, name="hidden_norm")(x, train, valid))
        x = dense(x, self.num_keypoints * 2, "delta")
        return x.reshape(*x.shape[:2], self.num_keypoints, 2)

    def _adjacency(self) -> Float[AnyArray, "k k"] | None:
        start = skeleton_adjacency(self.limbs, self.num_keypoints)
        if self.graph == "dynamic":
            return self.param("adjacency", initializers.drawn_by(lambda *_: start), start.shape)
        return jnp.asarray(start) if self.graph == "static" else None


class GraphBlock(nn.Module):
    """X' = relu(BN(A X W + b)), PINet eq. 9."""

    features: int
    axis_name: str | None

    @nn.compact
    def __call__(
        self,
        x: Nodes,
        adjacency: Float[AnyArray, "k k"] | None,
        valid: Bool[AnyArray, "b n"],
        train: bool,
    ) -> Float[Array, "b n k f2"]:
        """Adjacency None mixes nothing between keypoints."""
        shape = (x.shape[-1], self.features)
        weight = self.param("weight", GRAPH_INIT, shape, jnp.float32)
        bias = self.param("bias", uniform_init(self.features), (self.features,), jnp.float32)
        x = x @ weight
        if adjacency is not None:
            x = jnp.einsum("ij,bnjf->bnif", adjacency, x)
        mask = jnp.broadcast_to(valid[..., None], x.shape[:-1])
        return nn.relu(BatchNorm(self.axis_name, name="norm")(x + bias, train, mask))
