"""Truth and found people of a video side by side, as every metric wants them."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from pinet_jax.errors import UserError
from pinet_jax.tracking.posetrack import Frame, Video

HEAD_SHARE = 0.6  # of the diagonal of a head's box: the unit of distances


class Both(NamedTuple):
    """One scored frame."""

    truth: Frame
    found: Frame


class Pairs(NamedTuple):
    """g objects of the truth and p found ones in a frame, ids unique on either side.

    `value` is a distance (nan: no match possible) or a similarity, as a metric asks.
    """

    truth: Int[np.ndarray, " g"]
    found: Int[np.ndarray, " p"]
    value: Float[np.ndarray, "g p"]


def scored_frames(truth: Video, found: Video) -> list[Both]:
    """The labelled frames of a video without what lies in regions to ignore.

    Raises:
        UserError: other keypoints, or other frames.
    """
    if truth.keypoints != found.keypoints:
        raise UserError(
            f"'{found.name}' has the keypoints {', '.join(found.keypoints)}, and the annotations "
            f"{', '.join(truth.keypoints)}: give tracks of the annotations' skeleton."
        )
    _check_frames(truth, found)
    return [
        Both(_outside(a, a.regions), _outside(b, a.regions))
        for a, b in zip(truth.frames, found.frames, strict=True)
        if a.labelled
    ]


def _check_frames(truth: Video, found: Video) -> None:
    """Both list the same frames; a video's own tracks name the one file in every frame."""
    wanted, given = ([_name(f) for f in video.frames] for video in (truth, found))
    if len(wanted) != len(given):
        raise UserError(
            f"'{found.name}': the tracks have {len(given)} frames and the annotations "
            f"{len(wanted)}: list every frame of the annotations, also those without people."
        )
    differing = [i for i, (a, b) in enumerate(zip(wanted, given, strict=True)) if a != b]
    if differing and len(set(given)) > 1:
        number = differing[0]
        raise UserError(
            f"'{found.name}': frame {number} is '{given[number]}' in the tracks and "
            f"'{wanted[number]}' in the annotations: list the frames in the annotations' order."
        )


def _name(frame: Frame) -> str:
    return pathlib.PurePath(frame.file_name).name


def _outside(frame: Frame, regions: Sequence[np.ndarray]) -> Frame:
    """Without joints strictly inside a region, and then without people of no joint."""
    if not regions:
        return frame
    inside = np.zeros_like(frame.there)
    for polygon in regions:
        inside |= _strictly_inside(frame.keypoints, polygon)
    there = frame.there & ~inside
    kept = there.any(1)
    left = frame.take(kept)
    return Frame(**{**left.__dict__, "there": there[kept]})


def _strictly_inside(
    points: Float[np.ndarray, "n k 2"], polygon: Float[np.ndarray, "m 2"]
) -> Bool[np.ndarray, "n k"]:
    corners = polygon.astype(np.float32)[:, None]
    flat = points.reshape(-1, 2)
    sides = [cv2.pointPolygonTest(corners, (float(x), float(y)), False) for x, y in flat]
    return np.array([side > 0 for side in sides], bool).reshape(points.shape[:2])


def joint_distances(frame: Both, joints: int | slice) -> Float[np.ndarray, "g p *k"]:
    """Distances of the joints of everybody in the truth to those found, in head sizes.

    nan where one is not there on either side.

    Raises:
        UserError: the truth has no box of a head.
    """
    truth, found = frame
    heads = HEAD_SHARE * np.hypot(*truth.head_boxes[:, 2:].T)
    if np.isnan(heads[truth.there.any(1)]).any():
        raise UserError(
            f"The annotations of '{truth.file_name}' have a person without 'bbox_head': the "
            "distances of PoseTrack are measured in heads; without them only OKS is scored."
        )
    both = truth.there[:, None, joints] & found.there[:, joints]
    away = truth.keypoints[:, None, joints] - found.keypoints[:, joints]
    away = np.sqrt((away**2).sum(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(both, away / heads.reshape(-1, *[1] * (away.ndim - 1)), np.nan)


def joint_pairs(frames: Sequence[Both], joint: int) -> Iterator[Pairs]:
    """The distances of one joint in every frame, among those who have it."""
    for frame in frames:
        truth, found = frame.truth.there[:, joint], frame.found.there[:, joint]
        distance = joint_distances(frame, joint)
        yield Pairs(frame.truth.ids[truth], frame.found.ids[found], distance[truth][:, found])


def people_pairs(frames: Sequence[Both], sigmas: Sequence[float]) -> Iterator[Pairs]:
    """OKS of every person of the truth to every found one, in every frame.

    Over the truth's labelled joints, one that was not found counting 0; people without a
    joint are left out on either side.
    """
    variance = (2 * np.asarray(sigmas)) ** 2
    for frame in frames:
        truth = frame.truth.take(frame.truth.there.any(1))
        found = frame.found.take(frame.found.there.any(1))
        if not (truth.areas > 0).all():
            raise UserError(
                f"The annotations of '{truth.file_name}' have a person without 'area' and "
                "'bbox': OKS needs one of them."
            )
        distance2 = ((truth.keypoints[:, None] - found.keypoints) ** 2).sum(-1)
        scale = truth.areas[:, None, None] + np.spacing(1)
        alike = np.exp(-distance2 / variance / scale / 2)
        alike *= truth.there[:, None] & found.there
        yield Pairs(truth.ids, found.ids, alike.sum(-1) / truth.there.sum(1)[:, None])
