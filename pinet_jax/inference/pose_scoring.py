"""The scoring net: how well a pose fits somebody, from its shape and its keypoints' scores."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pinet_jax import skeletons
from pinet_jax.data import AnyArray
from pinet_jax.errors import UserError

SCORING = "scoring_net"  # beside "params" and "batch_stats" in a model's variables
HIDDEN = 256
LAYERS = ("l1", "l2", "l3")  # as released

# fmt: off
_RELEASED_LIMBS = {
    "coco": (
        (0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (5, 7), (5, 11),
        (6, 8), (6, 12), (7, 9), (8, 10), (11, 12), (11, 13), (12, 14), (13, 15), (14, 16),
    ),
    "crowdpose": (
        (12, 13), (13, 0), (13, 1), (0, 2), (1, 3), (2, 4), (3, 5), (0, 6), (1, 7), (6, 8),
        (7, 9), (8, 10), (9, 11), (6, 7), (0, 1),
    ),
}
# fmt: on
_UNIT_LIMBS = (9, 11)  # of those: the torso of COCO's, the left leg of CrowdPose's


class ScoringNet(nn.Module):
    """Features of poses to predicted OKS."""

    @nn.compact
    def __call__(self, features: Float[Array, "*n f"]) -> Float[Array, "*n"]:
        """In float32, without a bound."""
        x = features
        for name in LAYERS[:-1]:
            x = nn.relu(nn.Dense(HIDDEN, name=name)(x))
        return nn.Dense(1, name=LAYERS[-1])(x)[..., 0]


def limbs(skeleton: skeletons.Skeleton) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Pairs of keypoints, and which of them a pose is measured by.

    Those of the released nets; of other skeletons their own limbs, measured by all.
    """
    if skeleton.name in _RELEASED_LIMBS:
        return _RELEASED_LIMBS[skeleton.name], _UNIT_LIMBS
    return skeleton.limbs, tuple(range(len(skeleton.limbs)))


def pose_features(
    poses: Float[AnyArray, "*n k 2"],
    keypoint_scores: Float[AnyArray, "*n k"],
    skeleton: skeletons.Skeleton,
) -> Float[Array, "*n f"]:
    """What the net sees: vectors and lengths of the limbs, scores of the keypoints.

    Args:
        poses: (x, y) in image pixels.
        keypoint_scores: r.
        skeleton: of the poses.
    """
    pairs, measure = limbs(skeleton)
    poses = jnp.asarray(poses)
    start, end = np.array(pairs).T
    vectors = poses[..., start, :] - poses[..., end, :]
    lengths = jnp.sqrt((vectors**2).sum(-1))
    unit = jnp.maximum(lengths[..., np.array(measure)].mean(-1, keepdims=True), 1)
    flat = vectors.reshape(*vectors.shape[:-2], -1)
    return jnp.concatenate([flat / unit, lengths / unit, keypoint_scores], -1)


def num_features(skeleton: skeletons.Skeleton) -> int:
    """Length of `pose_features`."""
    return 3 * len(limbs(skeleton)[0]) + skeleton.num_keypoints


def predicted_oks(
    variables: Mapping[str, Any],
    poses: Float[AnyArray, "*n k 2"],
    keypoint_scores: Float[AnyArray, "*n k"],
    skeleton: skeletons.Skeleton,
) -> Float[Array, "*n"]:
    """The OKS that poses should have with somebody.

    Args:
        variables: of a model, with SCORING.
        poses: (x, y) in image pixels.
        keypoint_scores: r.
        skeleton: of the poses.

    Raises:
        UserError: the variables hold no scoring net, or one of another skeleton.
    """
    if SCORING not in variables:
        raise UserError(
            "config.eval.scoring_net: the checkpoint holds no scoring net: train one with "
            "tools/train_scoring_net.py, or set config.eval.scoring_net to False."
        )
    features = pose_features(poses, keypoint_scores, skeleton)
    params = variables[SCORING]
    if np.shape(params[LAYERS[0]]["kernel"]) != (features.shape[-1], HIDDEN):
        raise UserError(
            "config.eval.scoring_net: the checkpoint's scoring net is of another skeleton than "
            f"'{skeleton.name}': train one with tools/train_scoring_net.py."
        )
    return ScoringNet().apply({"params": params}, features)


def from_torch(
    state_dict: Mapping[str, np.ndarray], skeleton: skeletons.Skeleton
) -> dict[str, dict[str, np.ndarray]]:
    """Parameters of a released scoring net; UserError if the entries are not those of one."""
    sizes = num_features(skeleton), HIDDEN, HIDDEN, 1
    wanted = {
        f"{name}.{leaf}": shape
        for name, fan_in, fan_out in zip(LAYERS, sizes, sizes[1:], strict=False)
        for leaf, shape in (("weight", (fan_out, fan_in)), ("bias", (fan_out,)))
    }
    given = {name: tuple(np.shape(array)) for name, array in state_dict.items()}
    if given != wanted:
        raise UserError(
            f"The weights are of no scoring net for the skeleton '{skeleton.name}': it has "
            f"{', '.join(f'{name} {shape}' for name, shape in wanted.items())}."
        )
    return {
        name: {
            "kernel": np.ascontiguousarray(np.asarray(state_dict[f"{name}.weight"], np.float32).T),
            "bias": np.asarray(state_dict[f"{name}.bias"], np.float32),
        }
        for name in LAYERS
    }


def to_torch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """State dict (names -> arrays) of a scoring net; the inverse of `from_torch`."""
    entries = {}
    for name in LAYERS:
        entries[f"{name}.weight"] = np.ascontiguousarray(np.asarray(params[name]["kernel"]).T)
        entries[f"{name}.bias"] = np.asarray(params[name]["bias"])
    return entries


def init(seed: int, skeleton: skeletons.Skeleton) -> dict[str, Any]:
    """Fresh parameters."""
    features = jnp.zeros((1, num_features(skeleton)))
    return ScoringNet().init(jax.random.key(seed), features)["params"]
