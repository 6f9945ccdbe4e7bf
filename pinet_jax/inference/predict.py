"""The whole prediction: batches of images to people, one program of static shapes."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, UInt8
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons
from pinet_jax.errors import UserError
from pinet_jax.inference import fusion, pose_scoring
from pinet_jax.inference.fusion import People
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
    return join_people(found, variables, config)[0]


def join_people(
    found: Any, variables: Variables, config: ConfigDict
) -> tuple[People, Int32[Array, "b n"]]:
    """The people that candidates make, and which of them each became part of.

    By config.eval.suppression (`fusion.join`, `fusion.join_near`); with
    config.eval.scoring_net they are scored anew, as they are in the end.

    Args:
        found: a method's candidates: poses, keypoint_scores and valid; heat for "dekr".
        variables: those of the scoring net are used.
        config: of the method, and its `eval` part.

    Raises:
        UserError: such candidates have no heat, or there is no scoring net.
    """
    join = _join_near if config.eval.suppression == "dekr" else _join_alike
    people, person = join(found, config)
    if not config.eval.scoring_net:
        return people, person
    poses = people.keypoints, people.keypoint_scores
    factors = pose_scoring.predicted_oks(variables, *poses, skeletons.of(config))
    people, place = fusion.rescore(people, factors)
    moved = jnp.take_along_axis(place, jnp.maximum(person, 0), 1)
    return people, jnp.where(person < 0, -1, moved)


def _join_alike(found: Any, config: ConfigDict) -> tuple[People, Int32[Array, "b n"]]:
    return fusion.join(
        found.poses,
        found.keypoint_scores,
        found.valid,
        skeletons.of(config).sigmas,
        config.eval.oks_threshold,
        config.eval.pose_fusion,
    )


def _join_near(found: Any, config: ConfigDict) -> tuple[People, Int32[Array, "b n"]]:
    if not hasattr(found, "heat"):
        raise UserError(
            f"config.eval.suppression: candidates of config.model.method '{config.model.method}' "
            "have no heat, which 'dekr' goes by: use 'oks'."
        )
    settings = config.eval
    at_one_scale, at_several = settings.near_distances
    return fusion.join_near(
        found.poses,
        found.keypoint_scores,
        found.heat,
        found.valid,
        at_one_scale if len(settings.scales) == 1 else at_several,
        settings.near_keypoints,
        settings.max_people,
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
