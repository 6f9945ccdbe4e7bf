"""The kinematic tree: sides, mirror symmetry, limits and proportions."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from input_pipeline.synthcrowd import body, scene
from pinet_jax import skeletons

COCO = skeletons.COCO
SEEDS = st.integers(0, 2**31 - 1)
few = hypothesis.settings(max_examples=10, deadline=None)

average = body.Shape(*[jnp.ones(())] * 5, jnp.zeros(()), jnp.zeros(()))
assemble = jax.jit(body.assemble)
still = body.Pose(jnp.zeros((3, 3)), jnp.zeros((2, 4)), jnp.zeros((2, 4)))


@jax.jit
def sample(key):
    pose_key, shape_key = jax.random.split(key)
    pose = body.sample_pose(jax.random.uniform(pose_key, (body.POSE_CHANCES,)))
    return pose, body.sample_shape(jax.random.uniform(shape_key, (body.SHAPE_CHANCES,)))


def row(keypoints, name):
    return np.asarray(keypoints)[COCO.keypoints.index(name)]


@few
@hypothesis.given(SEEDS)
def test_mirrored_pose_is_mirrored_person(seed):
    pose, shape = sample(jax.random.key(seed))
    mirrored = body.Pose(
        pose.trunk * jnp.asarray([1.0, -1.0, -1.0]), pose.arms[::-1], pose.legs[::-1]
    )
    _, keypoints = assemble(pose, shape)
    _, twin = assemble(mirrored, shape)
    expected = np.asarray(keypoints)[list(COCO.flip_order)] * [-1, 1, 1]
    np.testing.assert_allclose(twin, expected, atol=1e-5)


@few
@hypothesis.given(SEEDS)
def test_poses_stay_within_the_limits_and_bones_keep_their_length(seed):
    pose, shape = sample(jax.random.key(seed))
    limits = body.TRUNK_LIMITS, body.ARM_LIMITS, body.LEG_LIMITS
    for angles, limit in zip(pose, limits, strict=True):
        low, high = np.moveaxis(np.deg2rad(np.asarray(limit)), -1, 0)
        assert np.all(angles >= low - 1e-5) and np.all(angles <= high + 1e-5)
    _, keypoints = assemble(pose, shape)
    for side in ("left", "right"):
        hip, knee, ankle = (row(keypoints, f"{side}_{j}") for j in ("hip", "knee", "ankle"))
        for thigh in (hip - knee, knee - ankle):
            assert np.linalg.norm(thigh) == pytest.approx(0.22 * float(shape.legs), abs=1e-5)


def test_average_person_is_one_high_with_its_left_on_positive_x_and_faces_positive_z():
    capsules, keypoints = assemble(still, average)
    tall = [np.asarray(c)[:, 1] for c in (capsules.start, capsules.end)]
    there = np.asarray(capsules.radius) > 0
    radius = np.asarray(capsules.radius)
    top = max((y + r)[t].max() for y, r, t in zip(tall, radius.T, there.T, strict=True))
    bottom = min((y - r)[t].min() for y, r, t in zip(tall, radius.T, there.T, strict=True))
    assert top - bottom == pytest.approx(1.0, abs=0.03)
    for joint in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        assert row(keypoints, f"left_{joint}")[0] > 0 > row(keypoints, f"right_{joint}")[0]
    assert row(keypoints, "nose")[2] > row(keypoints, "left_ear")[2]


def test_joints_bend_the_human_way():
    forward = still._replace(
        arms=jnp.deg2rad(jnp.asarray([[90.0, 0, 0, 0], [0, 90, 0, 0]])),
        legs=jnp.deg2rad(jnp.asarray([[90.0, 0, 0, 90], [0, 0, 0, 90]])),
    )
    _, keypoints = assemble(forward, average)
    shoulder = row(keypoints, "left_shoulder")
    np.testing.assert_allclose(row(keypoints, "left_elbow") - shoulder, [0, 0, 0.165], atol=1e-5)
    shoulder = row(keypoints, "right_shoulder")
    np.testing.assert_allclose(row(keypoints, "right_elbow") - shoulder, [-0.165, 0, 0], atol=1e-5)
    # A seated leg: thigh forward, shin down; a bent standing one: shin backward.
    hip, knee, ankle = (row(keypoints, f"left_{j}") for j in ("hip", "knee", "ankle"))
    np.testing.assert_allclose(knee - hip, [0, 0, 0.22], atol=1e-5)
    np.testing.assert_allclose(ankle - knee, [0, -0.22, 0], atol=1e-5)
    back = row(keypoints, "right_ankle") - row(keypoints, "right_knee")
    np.testing.assert_allclose(back, [0, 0, -0.22], atol=1e-5)


def test_camera_sees_the_left_side_on_the_right_of_who_faces_it():
    _, keypoints = assemble(still, average)
    for turn, sign in ((0.0, 1), (np.pi, -1)):
        seen = np.asarray(keypoints @ scene.camera_axes(jnp.float32(turn), jnp.float32(0)).T)
        assert sign * (row(seen, "left_shoulder")[0] - row(seen, "right_shoulder")[0]) > 0.1
        assert row(seen, "nose")[1] < row(seen, "left_ankle")[1]  # y is down
        assert sign * (row(seen, "nose")[2] - row(seen, "left_ear")[2]) < 0  # nearer in front
