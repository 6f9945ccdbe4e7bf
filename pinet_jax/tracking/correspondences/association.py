"""Which detection continues which track, and which are one too many (steps 4 and 5 of section 3).

All coordinates are pixels of the view. T tracks, D detections, K joints.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from pinet_jax.tracking.frames import Detections, areas, boxes, pose_oks


@dataclasses.dataclass(frozen=True)
class Scores:
    """How well each track's warped pose agrees with each detection.

    Attributes:
        box: s_box, the mean R of the warped joints in the detection's box.
        pose: s_pose, the OKS of the detection to the warped pose.
        read: s_corr, the sum of R at the detection's joints.
        mean_read: the same divided by how many joints it is of.
    """

    box: Float[np.ndarray, "t d"]
    pose: Float[np.ndarray, "t d"]
    read: Float[np.ndarray, "t d"]
    mean_read: Float[np.ndarray, "t d"]


def score(
    warped: Float[np.ndarray, "t k 2"],
    warped_scores: Float[np.ndarray, "t k"],
    people: Detections,
    reads: Float[np.ndarray, "t d k"],
    sigmas: Sequence[float],
    config: ConfigDict,
) -> Scores:
    """The three scores of every track and detection.

    A detection with too few valid joints gets zeros.

    Args:
        warped: joints of the tracks in this frame.
        warped_scores: R there; 0 where there is no query.
        people: detections.
        reads: R of the tracks at the detections' joints.
        sigmas: the skeleton's K constants.
        config: config.tracking.
    """
    there = warped_scores >= config.warp_score
    valid = people.valid(config.valid_score)
    valid &= (valid.sum(1) >= config.min_joints)[:, None]
    size = (config.view_size, config.view_size)
    corners = boxes(people.keypoints, valid, config.box_margin, size)
    in_box = there[:, None] & _inside(warped, corners)
    count = in_box.sum(-1)
    mean = (warped_scores[:, None] * in_box).sum(-1) / np.maximum(count, 1)
    counted = np.where(valid & (reads > config.read_score), reads, 0.0)
    total = counted.sum(-1)
    return Scores(
        box=np.where((count >= config.min_joints) & valid.any(1), mean, 0.0),
        pose=pose_oks(warped, there, people.keypoints, valid, areas(corners), sigmas),
        read=total,
        mean_read=total / np.maximum((counted > 0).sum(-1), 1),
    )


def assign(scores: Scores, config: ConfigDict) -> Int[np.ndarray, " t"]:
    """The detection of each track, -1 for none; no detection twice.

    Every track proposes to one detection at most, and a detection takes the proposing track
    of the largest score: the order of tracks and detections does not matter.
    """
    tracks, detections = scores.box.shape
    detection_of = np.full(tracks, -1)
    if not tracks or not detections:
        return detection_of
    near = scores.box > config.link_box
    value = np.where(near, scores.pose + scores.mean_read, -np.inf)
    best, each = value.argmax(1), np.arange(tracks)
    proposes = near[each, best]
    proposes &= scores.pose[each, best] > config.link_oks
    proposes &= scores.read[each, best] > config.link_read
    offered = np.full_like(value, -np.inf)
    offered[each[proposes], best[proposes]] = value[each, best][proposes]
    taken = np.flatnonzero(np.isfinite(offered).any(0))
    detection_of[offered[:, taken].argmax(0)] = taken
    return detection_of


def duplicates(
    scores: Scores, detection_of: Int[np.ndarray, " t"], config: ConfigDict
) -> Bool[np.ndarray, " d"]:
    """Detections without a track that show somebody who is matched already."""
    matched = np.flatnonzero(detection_of >= 0)
    own = detection_of[matched]
    votes = (scores.box > 0) | (scores.read > 0) | (scores.pose > config.link_oks)
    pose = np.where(scores.box > config.link_box, scores.pose, 0.0)
    ratio = _ratio(pose[matched], pose[matched, own])
    ratio += _ratio(scores.read[matched], scores.read[matched, own])
    same = (votes[matched] & (ratio > config.duplicate_ratio)).any(0)
    same[own] = False
    return same


def _ratio(values: Float[np.ndarray, "m d"], of: Float[np.ndarray, " m"]) -> np.ndarray:
    """values / of, 0 where the divisor is."""
    divisor = np.where(of > 0, of, np.inf)
    return values / divisor[:, None]


def _inside(
    points: Float[np.ndarray, "t k 2"], corners: Float[np.ndarray, "d 4"]
) -> Bool[np.ndarray, "t d k"]:
    low, high = corners[:, None, :2], corners[:, None, 2:]
    return np.all((points[:, None] >= low) & (points[:, None] <= high), axis=-1)
