"""One person: a kinematic tree, its joint limits, and the capsules that clothe it.

Body frame: x to the person's own left, y up, z the way the person faces; the origin
is the pelvis and a person of average proportions who stands is 1 high. Every
function is for one person; `jax.vmap` does many.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

NUM_KEYPOINTS = 17


class Pose(NamedTuple):
    """Joint angles in radians.

    trunk: rows hips, spine, head; bend forward, lean left, turn left.
    arms: rows left, right; shoulder flexion, abduction, internal rotation, elbow flexion.
    legs: rows left, right; hip flexion, abduction, external rotation, knee flexion.
    """

    trunk: Float[Array, "3 3"]
    arms: Float[Array, "2 4"]
    legs: Float[Array, "2 4"]


class Shape(NamedTuple):
    """Proportions as factors of the average adult's; hair and tie are 0 or 1."""

    head: Float[Array, ""]
    shoulders: Float[Array, ""]
    arms: Float[Array, ""]
    legs: Float[Array, ""]
    girth: Float[Array, ""]
    hair: Float[Array, ""]  # 1: long
    tie: Float[Array, ""]  # 1: worn


class Capsules(NamedTuple):
    """N round cones: each the union of the balls between two end balls.

    One of radius 0 is not there.
    """

    start: Float[Array, "n 3"]
    end: Float[Array, "n 3"]
    radius: Float[Array, "n 2"]  # at start and end


# Degrees: smallest and largest of each angle of a Pose.
TRUNK_LIMITS = (
    ((-15, 25), (-20, 20), (-20, 20)),
    ((-15, 60), (-30, 30), (-40, 40)),
    ((-35, 40), (-25, 25), (-70, 70)),
)
ARM_LIMITS = ((-40, 175), (-35, 175), (-60, 90), (0, 145))
LEG_LIMITS = ((-30, 120), (-15, 60), (-20, 45), (0, 140))

# What an arm does: odds; degrees on average.
_ARM_ACTIONS = (
    (0.24, (0, 8, 10, 15)),  # hangs
    (0.10, (25, 10, 20, 30)),  # swings forward
    (0.08, (-25, 10, 10, 15)),  # swings back
    (0.12, (-15, 45, 65, 105)),  # hand on the hip
    (0.10, (160, 20, 0, 20)),  # raised
    (0.07, (20, 140, 0, 50)),  # raised sideways
    (0.09, (70, 0, 10, 40)),  # reaches forward
    (0.06, (10, 85, 0, 20)),  # stretched out
    (0.08, (35, 0, 50, 110)),  # folded before the chest
    (0.06, (75, 15, 20, 130)),  # hand at the face
)
# What the legs do: odds; degrees on average of one leg and the other; of the spine's bend.
_LEG_ACTIONS = (
    (0.30, ((3, 4, 8, 5), (3, 4, 8, 5)), 0),  # stands
    (0.16, ((0, 16, 12, 4), (0, 16, 12, 4)), 0),  # stands astride
    (0.24, ((30, 2, 5, 15), (-15, 2, 5, 20)), 0),  # walks
    (0.12, ((60, 4, 5, 75), (-15, 4, 5, 40)), 5),  # runs
    (0.08, ((85, 12, 10, 85), (85, 12, 10, 85)), 12),  # sits
    (0.05, ((95, 15, 12, 125), (95, 15, 12, 125)), 20),  # crouches
    (0.05, ((85, 6, 5, 90), (0, 5, 5, 95)), 5),  # kneels
)
# Degrees a person strays from those, one standard deviation.
_TRUNK_SPREAD = ((4, 4, 0), (9, 6, 10), (10, 7, 25))
_ARM_SPREAD = (18, 12, 20, 18)
_LEG_SPREAD = (8, 6, 8, 8)


POSE_CHANCES, SHAPE_CHANCES = 30, 7


def sample_pose(chances: Float[Array, "30"]) -> Pose:
    """A plausible pose within the joint limits, decided by uniform numbers in [0, 1)."""
    choices, stray = jnp.split(chances, [5])
    stray = jax.scipy.special.ndtri(jnp.clip(stray, 1e-4, 1 - 1e-4))
    arm_odds, arm_means = zip(*_ARM_ACTIONS, strict=True)
    leg_odds, leg_means, bends = zip(*_LEG_ACTIONS, strict=True)
    left, right = _choose(choices[0], arm_odds), _choose(choices[1], arm_odds)
    right = jnp.where(choices[2] < 0.4, left, right)  # often both arms do the same
    arms = _radians(arm_means)[jnp.stack([left, right])]
    action = _choose(choices[3], leg_odds)
    legs = _radians(leg_means)[action]
    legs = jnp.where(choices[4] < 0.5, legs, legs[::-1])
    trunk = stray[:9].reshape(3, 3) * _radians(_TRUNK_SPREAD)
    trunk = trunk.at[1, 0].add(_radians(bends)[action])
    arms += stray[9:17].reshape(2, 4) * _radians(_ARM_SPREAD)
    legs += stray[17:].reshape(2, 4) * _radians(_LEG_SPREAD)
    return Pose(_clip(trunk, TRUNK_LIMITS), _clip(arms, ARM_LIMITS), _clip(legs, LEG_LIMITS))


def sample_shape(chances: Float[Array, "7"]) -> Shape:
    """Proportions from child-like to adult, slim to stout."""
    low = jnp.asarray([0.95, 0.9, 0.94, 0.94, 0.88])
    high = jnp.asarray([1.25, 1.12, 1.06, 1.06, 1.3])
    factors = low + (high - low) * chances[:5]
    long_hair, tie = chances[5] < 0.4, chances[6] < 0.5
    return Shape(*factors, jnp.float32(long_hair), jnp.float32(tie))


def _choose(chance: Array, odds: tuple[float, ...]) -> Array:
    """Index drawn with the given odds from a uniform number in [0, 1)."""
    return jnp.sum(chance >= np.cumsum(odds, dtype=np.float32)[:-1])


def _radians(degrees: tuple) -> Array:
    return jnp.asarray(np.deg2rad(np.asarray(degrees, np.float32)))


def _clip(angles: Array, limits: tuple) -> Array:
    limits = _radians(limits)
    return jnp.clip(angles, limits[..., 0], limits[..., 1])


def rotation(axis: int, angle: Float[Array, "*b"]) -> Float[Array, "*b 3 3"]:
    """Right-handed rotation by `angle` radians about axis 0, 1 or 2."""
    j, k = (axis + 1) % 3, (axis + 2) % 3
    about, plane, turn = np.zeros((3, 3, 3), np.float32)
    about[axis, axis] = plane[j, j] = plane[k, k] = turn[k, j] = 1
    turn[j, k] = -1
    angle = jnp.asarray(angle)[..., None, None]
    return about + plane * jnp.cos(angle) + turn * jnp.sin(angle)


# Bones: a frame whose y runs up the trunk, or from a joint back up a limb.
PELVIS, CHEST, HEAD = range(3)
_UPPER_ARM, _FOREARM, _THIGH, _SHIN = (3, 4), (5, 6), (7, 8), (9, 10)  # left, right
_SIDES = np.array([1.0, -1.0], np.float32)
_DOWN = np.array([0.0, -1.0, 0.0], np.float32)


def _bones(pose: Pose, shape: Shape) -> tuple[Float[Array, "11 3 3"], Float[Array, "11 3"]]:
    """Frame and origin of every bone in the body frame."""
    bend, lean, turn = pose.trunk.T
    trunk = rotation(1, turn) @ rotation(2, -lean) @ rotation(0, bend)
    pelvis = trunk[0]
    chest = pelvis @ trunk[1]
    head = chest @ trunk[2]
    neck = pelvis @ jnp.asarray([0, 0.06, 0]) + chest @ jnp.asarray([0, 0.22, 0])
    base = neck + chest @ jnp.asarray([0, 0.035, 0.01])
    shoulders = neck + jnp.stack([0.105 * shape.shoulders * _SIDES, *_row(-0.035, 0)], 1) @ chest.T
    hips = jnp.stack([0.053 * _SIDES, *_row(-0.03, 0)], 1) @ pelvis.T
    upper_arms, forearms = _limbs(pose.arms, chest, twist=-1.0, hinge=-1.0)
    thighs, shins = _limbs(pose.legs, pelvis, twist=1.0, hinge=1.0)
    elbows = shoulders + 0.165 * shape.arms * upper_arms @ _DOWN
    knees = hips + 0.22 * shape.legs * thighs @ _DOWN
    trunk = jnp.stack([pelvis, chest, head])
    origins = jnp.stack([jnp.zeros(3), neck, base])
    return (
        jnp.concatenate([trunk, upper_arms, forearms, thighs, shins]),
        jnp.concatenate([origins, shoulders, elbows, hips, knees]),
    )


def _row(*values: float) -> list[np.ndarray]:
    return [np.full(2, value, np.float32) for value in values]


def _limbs(angles: Array, parent: Array, twist: float, hinge: float) -> tuple[Array, Array]:
    """Frames of the upper and the lower bones of both arms or both legs."""
    flexion, abduction, turn, bend = angles.T
    upper = rotation(0, -flexion) @ rotation(2, _SIDES * abduction)
    upper = parent @ upper @ rotation(1, twist * _SIDES * turn)
    return upper, upper @ rotation(0, hinge * bend)


class _Part(NamedTuple):
    """A capsule between points of two bones, in the bones' units (see `_units`)."""

    material: str
    start_bone: int
    start: tuple[float, float, float]
    end_bone: int
    end: tuple[float, float, float]
    radius: tuple[float, float]
    thickness: int  # row of `_thickness`


_FIXED, _TRUNK, _ARM, _LEG, _HEAD, _HAIR, _TIE = range(7)


def _units(shape: Shape) -> Float[Array, "11 3"]:
    """Lengths, in standing heights, that a bone's coordinates are multiples of."""
    one = jnp.ones(())
    trunk = [jnp.stack([one, one, shape.girth]), jnp.stack([shape.shoulders, one, shape.girth])]
    arm, leg = jnp.stack([one, shape.arms, one]), jnp.stack([one, shape.legs, one])
    return jnp.stack([*trunk, jnp.full(3, 0.075) * shape.head, *[arm] * 4, *[leg] * 4])


def _thickness(shape: Shape) -> Float[Array, "7"]:
    """Factors of the radii: the parts of `thickness` 0, 1, ... in that order."""
    arm, leg, head = 0.5 + 0.5 * shape.girth, 0.4 + 0.6 * shape.girth, 0.075 * shape.head
    one = jnp.ones(())
    return jnp.stack([one, shape.girth, arm, leg, head, head * shape.hair, shape.tie])


def _head_parts() -> list[_Part]:
    def part(material, start, end, r0, r1, thickness=_HEAD) -> _Part:
        return _Part(material, HEAD, start, HEAD, end, (r0, r1), thickness)

    parts = [
        part("skin", (0, 1.05, 0), (0, 1.2, -0.1), 0.82, 0.85),
        part("skin", (0, 0.45, 0.2), (0, 0.9, 0.15), 0.48, 0.65),
        part("hair", (0, 1.38, -0.2), (0, 1.25, -0.35), 0.9, 0.85),
        part("hair", (0, 1.15, -0.4), (0, 0.7, -0.35), 0.72, 0.6),
        part("hair", (0, 1.0, -0.45), (0, -0.7, -0.55), 0.6, 0.4, _HAIR),
        part("nose", (0, 1.02, 0.82), (0, 0.84, 0.95), 0.09, 0.15),
        part("mouth", (0.22, 0.5, 0.64), (-0.22, 0.5, 0.64), 0.09, 0.09),
    ]
    for side in (1, -1):
        eye, pupil = (0.33 * side, 1.12, 0.66), (0.33 * side, 1.12, 0.79)
        parts += [part("white", eye, eye, 0.19, 0.19), part("pupil", pupil, pupil, 0.12, 0.12)]
        ear = (0.84 * side, 1.1, -0.05), (0.86 * side, 0.9, -0.05)
        parts += [part("skin", *ear, 0.2, 0.15)]
    return parts


def _trunk_parts() -> list[_Part]:
    def part(material, start_bone, start, end_bone, end, r0, r1, thickness=_TRUNK) -> _Part:
        return _Part(material, start_bone, start, end_bone, end, (r0, r1), thickness)

    parts = [
        part("shirt", CHEST, (0.075, -0.04, 0), CHEST, (-0.075, -0.04, 0), 0.048, 0.048, _FIXED),
        part("shirt", CHEST, (0, -0.09, 0.008), PELVIS, (0, 0.03, 0.012), 0.066, 0.068),
        part("trousers", PELVIS, (0.045, -0.01, 0), PELVIS, (-0.045, -0.01, 0), 0.062, 0.062),
        part("skin", CHEST, (0, -0.02, 0), CHEST, (0, 0.06, 0.005), 0.034, 0.03, _FIXED),
        part("tie", CHEST, (0, -0.05, 0.066), CHEST, (0, -0.19, 0.071), 0.009, 0.02, _TIE),
    ]
    for side in (1, -1):
        chest, hip = (0.064 * side, -0.07, 0), (0.038 * side, 0.04, 0)
        parts.append(part("shirt", CHEST, chest, PELVIS, hip, 0.062, 0.058))
    return parts


def _limb_parts() -> list[_Part]:
    def part(material, bone, start, end, r0, r1, thickness) -> _Part:
        return _Part(material, bone, start, bone, end, (r0, r1), thickness)

    origin, parts = (0, 0, 0), []
    for side in (0, 1):
        upper, fore = _UPPER_ARM[side], _FOREARM[side]
        thigh, shin = _THIGH[side], _SHIN[side]
        parts += [
            part("shirt", upper, origin, (0, -0.165, 0), 0.037, 0.029, _ARM),
            part("sleeve", fore, origin, (0, -0.14, 0), 0.027, 0.02, _ARM),
            part("skin", fore, (0, -0.14, 0), (0, -0.2, 0), 0.021, 0.023, _FIXED),
            part("trousers", thigh, origin, (0, -0.22, 0), 0.056, 0.042, _LEG),
            part("shin", shin, origin, (0, -0.22, 0), 0.04, 0.027, _LEG),
            part("shoes", shin, (0, -0.245, -0.015), (0, -0.25, 0.1), 0.028, 0.024, _FIXED),
        ]
    return parts


_PARTS = (*_head_parts(), *_trunk_parts(), *_limb_parts())
MATERIALS = tuple(dict.fromkeys(part.material for part in _PARTS))
CAPSULE_MATERIALS = tuple(MATERIALS.index(part.material) for part in _PARTS)
# Those of the head alone, without long hair.
HEAD_CAPSULES = np.array([p.start_bone == HEAD and p.thickness == _HEAD for p in _PARTS])

# COCO keypoints: bone, place in the bone's units, and how far in front of it (in
# standing heights) the person's own flesh and clothes may reach without hiding it.
_KEYPOINTS = (
    (HEAD, (0, 0.84, 1.05), 0.012),
    *((HEAD, (0.33 * side, 1.12, 0.84), 0.012) for side in (1, -1)),
    *((HEAD, (0.95 * side, 1.0, -0.05), 0.03) for side in (1, -1)),
    *((bone, (0, 0, 0), 0.07) for bone in _UPPER_ARM),
    *((bone, (0, 0, 0), 0.05) for bone in _FOREARM),
    *((bone, (0, -0.14, 0), 0.038) for bone in _FOREARM),
    *((bone, (0, 0, 0), 0.105) for bone in _THIGH),
    *((bone, (0, 0, 0), 0.065) for bone in _SHIN),
    *((bone, (0, -0.22, 0), 0.05) for bone in _SHIN),
)
COVER = np.array([cover for *_, cover in _KEYPOINTS], np.float32)


def assemble(pose: Pose, shape: Shape) -> tuple[Capsules, Float[Array, "17 3"]]:
    """The capsules of a posed person and its 17 COCO keypoints, in the body frame."""
    frames, origins = _bones(pose, shape)
    units = _units(shape)

    def place(bones: tuple, points: tuple) -> Array:
        bones, points = np.asarray(bones), np.asarray(points, np.float32)
        local = points * units[bones]
        return origins[bones] + jnp.einsum("nij,nj->ni", frames[bones], local)

    _, start_bones, starts, end_bones, ends, radii, thickness = zip(*_PARTS, strict=True)
    radii = np.asarray(radii, np.float32) * _thickness(shape)[np.asarray(thickness)][:, None]
    capsules = Capsules(place(start_bones, starts), place(end_bones, ends), radii)
    bones, points, _ = zip(*_KEYPOINTS, strict=True)
    return capsules, place(bones, points)
