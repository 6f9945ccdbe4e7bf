"""Who walks where: the fixed facts of a video, and its people at any time.

Camera frame and bodies are those of `input_pipeline.synthcrowd`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from input_pipeline.synthcrowd import body
from input_pipeline.synthcrowd.scene import People, camera_axes, depths, person_box
from input_pipeline.synthvideo.kinds import MOST_PEOPLE, Kind

WALKS = (0.46, 0.82)  # of the chance of a leg action: those who walk or run
STRIDE = 0.8  # standing heights that two steps go
TRACK = (0.1, 0.9)  # ends of everybody's way, image widths
FEET = 0.93  # image heights down to the lowest lane
PELVIS = 0.5  # of a standing person, heights above its feet
TURN_ROUND = 3.0  # how sharply people turn at the ends of their way
SWAY = 0.6  # radians that people are turned off their way, to either side
TILT = 0.1  # radians that the camera looks down at most


class Cast(NamedTuple):
    """The people of a video, P places, and its camera.

    Attributes:
        poses: two poses of each, between which it swings.
        shape: proportions.
        gait: swings a frame, and where in a swing it starts.
        way: where it is on its way at frame 0, and how much further it is a frame later;
            there is 0 to 1, back 1 to 2.
        turn: radians off its way.
        scale: standing height, pixels.
        feet: height of its lane, pixels.
        depth: pixels, see `scene`.
        valid: the people there are.
        tilt: of the camera, radians.
        pan: swing of the camera to either side, pixels; swings a frame; phase.
    """

    poses: tuple[body.Pose, body.Pose]
    shape: body.Shape
    gait: Float[Array, "2 p"]
    way: Float[Array, "2 p"]
    turn: Float[Array, " p"]
    scale: Float[Array, " p"]
    feet: Float[Array, " p"]
    depth: Float[Array, " p"]
    valid: Bool[Array, " p"]
    tilt: Float[Array, ""]
    pan: Float[Array, "3"]


def sample_cast(key: PRNGKeyArray, kind: Kind, size: int) -> Cast:
    """The people of a video of frames of `size` pixels."""
    body_key, way_key, plan_key = jax.random.split(key, 3)
    crowd, tilt, gap, phase = jax.random.uniform(plan_key, (4,))
    start, side, speed, height, turn, lane, step, *noise = jax.random.uniform(
        way_key, (8, MOST_PEOPLE)
    )
    fewest, most = kind.people
    valid = jnp.arange(MOST_PEOPLE) < fewest + jnp.int32(crowd * (most + 1 - fewest))
    scale = size * _between(kind.height, height)
    feet = size * (FEET - kind.lanes * lane)
    pace = _between(kind.speed, speed)
    length = (TRACK[1] - TRACK[0]) * size
    start = (2 * (jnp.arange(MOST_PEOPLE) + start) / MOST_PEOPLE + side) % 2
    return Cast(
        poses=_poses(body_key),
        shape=jax.vmap(body.sample_shape)(
            jax.random.uniform(jax.random.fold_in(body_key, 2), (MOST_PEOPLE, body.SHAPE_CHANCES))
        ),
        gait=jnp.stack([pace / STRIDE, step]),
        way=jnp.stack([start, pace * scale / length]),
        turn=SWAY * (2 * turn - 1),
        scale=scale,
        feet=feet,
        depth=depths(feet, scale, noise[0], gap),
        valid=valid,
        tilt=TILT * tilt,
        pan=jnp.stack([kind.pan * size, 1 / jnp.asarray(kind.pan_period), phase]),
    )


def _between(ends: tuple, share: Array) -> Array:
    return ends[0] + (ends[1] - ends[0]) * share


def _poses(key: PRNGKeyArray) -> tuple[body.Pose, body.Pose]:
    """Two poses of one action of each person, the legs changed."""
    first, second = jax.random.uniform(key, (2, MOST_PEOPLE, body.POSE_CHANCES))
    first = first.at[:, 3].set(_between(WALKS, first[:, 3]))
    second = second.at[:, :4].set(first[:, :4]).at[:, 4].set((first[:, 4] + 0.5) % 1)
    sample = jax.vmap(body.sample_pose)
    return sample(first), sample(second)


def people_at(cast: Cast, time: Float[Array, ""], size: int) -> People:
    """The people in frame number `time`."""
    swing = 0.5 + 0.5 * jnp.sin(2 * jnp.pi * (cast.gait[0] * time + cast.gait[1]))
    pose = jax.tree.map(
        lambda a, b: a + swing.reshape(-1, *[1] * (a.ndim - 1)) * (b - a), *cast.poses
    )
    capsules, keypoints = jax.vmap(body.assemble)(pose, cast.shape)
    place, heading = _on_way(cast.way[0] + cast.way[1] * time)
    axes = jax.vmap(camera_axes, (0, None))(heading * jnp.pi / 2 + cast.turn, cast.tilt)
    x = size * _between(TRACK, place) - camera_x(cast, time)
    origin = jnp.stack([x, cast.feet - PELVIS * cast.scale, cast.depth], -1)

    def to_image(points: Array) -> Array:
        turned = jnp.einsum("pni,pji->pnj", points, axes)
        return turned * cast.scale[:, None, None] + origin[:, None]

    placed = body.Capsules(
        to_image(capsules.start),
        to_image(capsules.end),
        capsules.radius * cast.scale[:, None, None],
    )
    return People(placed, to_image(keypoints), person_box(placed), cast.scale, cast.valid)


def _on_way(phase: Float[Array, " p"]) -> tuple[Array, Array]:
    """Place in [0, 1] and heading (-1 to the left, 1 to the right) of people going to and fro."""
    phase = phase % 2
    heading = jnp.clip(-TURN_ROUND * jnp.sin(jnp.pi * phase), -1, 1)
    return jnp.abs(phase - 1), heading


def camera_x(cast: Cast, time: Float[Array, ""]) -> Float[Array, ""]:
    """Whole pixels that the camera has moved to the right of its middle place."""
    swing, rate, phase = cast.pan
    return jnp.round(swing * jnp.sin(2 * np.pi * (rate * time + phase)))
