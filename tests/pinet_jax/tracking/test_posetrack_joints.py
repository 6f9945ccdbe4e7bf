"""PoseTrack's joints made of a model's: the two constants are those of the synthetic people."""

import jax
import numpy as np
import pytest

from input_pipeline.synthcrowd import body
from input_pipeline.synthcrowd.scene import camera_axes
from pinet_jax.errors import UserError
from pinet_jax.skeletons import COCO, CROWDPOSE, POSETRACK
from pinet_jax.tracking import posetrack_joints
from pinet_jax.tracking.frames import Tracked
from tests.pinet_jax.tracking import people


def heads(count):
    """Keypoints of synthetic people in a picture, and where their heads begin and end."""

    def one(key):
        pose_key, shape_key, view_key = jax.random.split(key, 3)
        pose = body.sample_pose(jax.random.uniform(pose_key, (body.POSE_CHANCES,)))
        shape = body.sample_shape(jax.random.uniform(shape_key, (body.SHAPE_CHANCES,)))
        capsules, keypoints = body.assemble(pose, shape)
        frames, origins = body._bones(pose, shape)
        hair = body.CAPSULE_MATERIALS.index(body.MATERIALS.index("hair"))
        top = capsules.start[hair] + frames[body.HEAD][:, 1] * capsules.radius[hair, 0]
        turn, tilt = jax.random.uniform(view_key, (2,), minval=-1)
        axes = camera_axes(turn * np.pi, 0.2 * tilt)
        return keypoints @ axes.T, origins[body.HEAD] @ axes.T, top @ axes.T

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), count))
    return [np.asarray(points)[..., :2] for points in found]


@pytest.mark.slow
def test_the_constants_are_the_best_for_synthetic_people():
    keypoints, bottom, top = heads(4000)
    middle = (keypoints[:, 5] + keypoints[:, 6]) / 2
    up = keypoints[:, 0] - middle
    for place, truth in ((posetrack_joints.HEAD_BOTTOM, bottom), (posetrack_joints.HEAD_TOP, top)):
        best = ((truth - middle) * up).sum() / (up**2).sum()
        assert place == pytest.approx(best, abs=0.03)


def test_joints_are_taken_by_name_and_the_heads_ends_estimated():
    found = people.at((100, 100))
    scores = found.keypoint_scores.copy()
    scores[0, [0, 5]] = 0.6, 0.4
    tracked = Tracked(found.keypoints, scores, np.array([7]))
    got = posetrack_joints.convert(tracked, COCO)
    assert got.ids.tolist() == [7]
    for name in set(COCO.keypoints) & set(POSETRACK.keypoints) - {"left_ear", "right_ear"}:
        ours, theirs = COCO.keypoints.index(name), POSETRACK.keypoints.index(name)
        np.testing.assert_array_equal(got.keypoints[0, theirs], found.keypoints[0, ours])
        assert got.keypoint_scores[0, theirs] == scores[0, ours]
    top, bottom, nose = got.keypoints[0, [2, 1, 0], 1]
    assert top < nose < bottom
    np.testing.assert_allclose(got.keypoint_scores[0, 1:5], [0.2, 0.2, 0, 0])


def test_without_a_nose_or_a_shoulder_there_is_no_head():
    found = people.at((100, 100))
    scores = found.keypoint_scores.copy()
    scores[0, 0] = 0
    got = posetrack_joints.convert(Tracked(found.keypoints, scores, np.array([1])), COCO)
    assert not got.keypoint_scores[0, :3].any() and not got.keypoints[0, :3].any()


def test_skeletons_without_a_nose_are_refused():
    posetrack_joints.check(COCO)
    posetrack_joints.check(POSETRACK)
    with pytest.raises(UserError, match=r"'crowdpose' has no 'nose'.*--track_format=model"):
        posetrack_joints.check(CROWDPOSE)
