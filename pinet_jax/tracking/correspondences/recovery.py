"""People that were found a frame ago and now are not, looked for where they should be (step 3)."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from ml_collections import ConfigDict

from pinet_jax.tracking.correspondences import view
from pinet_jax.tracking.frames import Detections, areas, boxes, join, nobody, pose_oks

Crop = UInt8[np.ndarray, "s s 3"]
Estimate = Callable[[list[Crop]], list[Detections]]  # the people of crops, in pixels of these


def recover(
    image: UInt8[np.ndarray, "h w 3"],
    warped: Float[np.ndarray, "n k 2"],
    warped_scores: Float[np.ndarray, "n k"],
    found: Detections,
    estimate: Estimate,
    sigmas: Sequence[float],
    margin: float,
    crop_size: int,
    config: ConfigDict,
) -> Detections:
    """People that were not found in a frame, found in crops of it.

    A crop is only looked at if the warped pose does not lie on somebody found: its estimate
    would be dropped as one of those. Of several estimates alike the surest stays.

    Args:
        image: the frame, RGB.
        warped: joints of the people of the frame before in this one, image pixels.
        warped_scores: R there; 0 where there is no query.
        found: people of this frame.
        estimate: finds the people of crops.
        sigmas: the skeleton's K constants.
        margin: image pixels that boxes reach beyond the joints.
        crop_size: side of the crops, pixels.
        config: config.tracking.
    """
    size = image.shape[:2]
    kept = warped_scores >= config.recovery_score
    on_found = _to_warped(warped, kept, found, sigmas, margin, size, config)
    missing = kept.sum(1) >= config.recovery_warped
    missing &= on_found.max(1, initial=0.0) <= config.recovery_oks_found
    rows = np.flatnonzero(missing)
    if not len(rows):
        return nobody(len(sigmas))
    around = boxes(warped[rows], kept[rows], margin, size)
    to_crop = [_to_square(box, config.recovery_crop, crop_size) for box in around]
    crops = [cv2.warpAffine(image, matrix, (crop_size, crop_size)) for matrix in to_crop]
    estimates = nobody(len(sigmas))
    for row, people, matrix in zip(rows, estimate(crops), to_crop, strict=True):
        back = view.apply(view.inverse(matrix), people.keypoints)
        people = Detections(back, people.keypoint_scores)
        alike = _to_warped(warped[[row]], kept[[row]], people, sigmas, margin, size, config)[0]
        if len(people):
            estimates = join(estimates, people.take(np.array([alike.argmax()])))
    return _new(estimates, found, sigmas, margin, size, config)


def _to_warped(
    warped: Float[np.ndarray, "n k 2"],
    kept: Bool[np.ndarray, "n k"],
    people: Detections,
    sigmas: Sequence[float],
    margin: float,
    size: tuple[int, int],
    config: ConfigDict,
) -> Float[np.ndarray, "n d"]:
    """OKS of people to warped poses, as s_pose."""
    valid = people.valid(config.valid_score)
    area = areas(boxes(people.keypoints, valid, margin, size))
    return pose_oks(warped, kept, people.keypoints, valid, area, sigmas)


def _new(
    estimates: Detections,
    found: Detections,
    sigmas: Sequence[float],
    margin: float,
    size: tuple[int, int],
    config: ConfigDict,
) -> Detections:
    """Those with enough joints that are unlike those found and unlike a surer one."""
    enough = estimates.valid(config.valid_score).sum(1) >= config.recovery_joints
    order = np.argsort(-estimates.scores, kind="stable")
    new = nobody(len(sigmas))
    for row in order[enough[order]]:
        one = estimates.take(np.array([row]))
        to_found, to_new = (
            _alike(one, others, sigmas, margin, size, config).max(initial=0.0)
            for others in (found, new)
        )
        if to_found <= config.recovery_oks_found and to_new <= config.recovery_oks:
            new = join(new, one)
    return new


def _alike(
    one: Detections,
    others: Detections,
    sigmas: Sequence[float],
    margin: float,
    size: tuple[int, int],
    config: ConfigDict,
) -> Float[np.ndarray, " d"]:
    """OKS of a person to others; the scale is the mean of the two boxes."""
    valid, others_valid = (p.valid(config.valid_score) for p in (one, others))
    area = areas(boxes(one.keypoints, valid, margin, size))
    others_area = areas(boxes(others.keypoints, others_valid, margin, size))
    mean = (area + others_area) / 2
    return pose_oks(one.keypoints, valid, others.keypoints, others_valid, mean, sigmas)[0]


def _to_square(box: Float[np.ndarray, " 4"], factor: float, size: int) -> Float[np.ndarray, "2 3"]:
    """Image pixels to those of a crop of side `size`: the enlarged square about a box."""
    side = max(1.0, factor * (box[2:] - box[:2]).max())
    scale, middle = size / side, (box[:2] + box[2:]) / 2
    return np.column_stack([scale * np.eye(2), size / 2 - scale * middle])
