"""The whole prediction: batches of images to people, one program of static shapes."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float, Int32, UInt8
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons
from pinet_jax.inference.fusion import People, join
from pinet_jax.methods.variables import Variables
from pinet_jax.runtime import devices


def predict(
    model: nn.Module,
    variables: Variables,
    images: tuple[UInt8[Array, "b _ _ 3"], ...],
    to_image: Float[Array, "b 2 3"],
    config: ConfigDict,
) -> People:
    """The people of a batch of images of one size; pure, to be jitted.

    Args:
        model: as built from the config.
        variables: {"params", "batch_stats"}.
        images: network inputs, one array a scale of config.eval.scales.
        to_image: affine maps from network-input pixels of scale 1 to image pixels.
        config: its `eval` part says how.
    """
    found = methods.of(config).find_candidates(model, variables, images, to_image, config)
    return join_people(found, config)[0]


def join_people(found: Any, config: ConfigDict) -> tuple[People, Int32[Array, "b n"]]:
    """The people that candidates make, and which of them each became part of (`fusion.join`).

    Args:
        found: a method's candidates: poses, keypoint_scores and valid.
        config: of the method, and its `eval` part.
    """
    return join(
        found.poses,
        found.keypoint_scores,
        found.valid,
        skeletons.of(config).sigmas,
        config.eval.oks_threshold,
        config.eval.pose_fusion,
    )


def predict_here(
    model: nn.Module,
    variables: Variables,
    images: tuple[UInt8[Array, "b _ _ 3"], ...],
    to_image: Float[Array, "b 2 3"],
    config: ConfigDict,
) -> People:
    """`predict`, one image after the other where that is faster and saves memory."""

    def run(images: tuple, to_image: Array) -> People:
        return predict(model, variables, images, to_image, config)

    return devices.map_at_once(run, images, to_image)
