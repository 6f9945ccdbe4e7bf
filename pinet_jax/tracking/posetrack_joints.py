"""People of another skeleton with PoseTrack's 17 joints, whose head's ends are estimated."""

import numpy as np

from pinet_jax.errors import UserError
from pinet_jax.skeletons import POSETRACK, Skeleton
from pinet_jax.tracking.frames import Tracked

# Places on the line from the middle of the shoulders (0) to the nose (1): least squares over the
# poses and views of the synthetic people (held by a test).
HEAD_BOTTOM, HEAD_TOP = 0.42, 1.45
ESTIMATED = 0.5  # factor on the scores of joints that are estimated
NEEDED = ("nose", "left_shoulder", "right_shoulder")


def check(skeleton: Skeleton) -> None:
    """UserError unless PoseTrack's joints can be made of the skeleton's."""
    missing = [name for name in NEEDED if name not in skeleton.keypoints]
    if missing and skeleton != POSETRACK:
        raise UserError(
            f"--track_format=posetrack: the skeleton '{skeleton.name}' has no '{missing[0]}', from "
            "which the head would be estimated: use --track_format=model."
        )


def convert(people: Tracked, skeleton: Skeleton) -> Tracked:
    """The people with PoseTrack's joints; those that the skeleton lacks have no score.

    head_bottom and head_top are estimated from the shoulders and the nose, if all of them are
    there, with half the least of their scores.
    """
    if skeleton == POSETRACK:
        return people
    shape = (len(people), POSETRACK.num_keypoints)
    keypoints, scores = np.zeros((*shape, 2)), np.zeros(shape)
    for k, name in enumerate(POSETRACK.keypoints):
        if name in skeleton.keypoints:
            own = skeleton.keypoints.index(name)
            keypoints[:, k] = people.keypoints[:, own]
            scores[:, k] = people.keypoint_scores[:, own]
    nose, left, right = (skeleton.keypoints.index(name) for name in NEEDED)
    middle = (people.keypoints[:, left] + people.keypoints[:, right]) / 2
    up = people.keypoints[:, nose] - middle
    certain = people.keypoint_scores[:, [nose, left, right]].min(1)
    for name, place in (("head_bottom", HEAD_BOTTOM), ("head_top", HEAD_TOP)):
        k = POSETRACK.keypoints.index(name)
        keypoints[:, k] = middle + place * up
        scores[:, k] = ESTIMATED * certain
    for name in ("left_ear", "right_ear"):  # never annotated in PoseTrack
        scores[:, POSETRACK.keypoints.index(name)] = 0.0
    return Tracked(np.where(scores[..., None] > 0, keypoints, 0.0), scores, people.ids)
