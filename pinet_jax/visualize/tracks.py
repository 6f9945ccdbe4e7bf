"""People with identities drawn on a frame: one colour and number each, and where they came from."""

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from pinet_jax.data import RgbImage
from pinet_jax.skeletons import Skeleton
from pinet_jax.visualize.people import (
    MIN_KEYPOINT_SCORE,
    MIN_LONG_SIDE,
    Poses,
    draw_poses,
    enlarged,
    person_color,
)

TRAIL = 24  # frames that a trail reaches back
THICKNESS = 200  # of a trail: long sides of the picture to one width

# Of each person: the middle of the pose in the last frames; nan where it was not seen.
Trails = Mapping[int, Float[np.ndarray, "_ 2"]]


def longer_trails(
    trails: Trails,
    ids: Int[np.ndarray, " n"],
    keypoints: Float[np.ndarray, "n k 2"],
    keypoint_scores: Float[np.ndarray, "n k"],
) -> Trails:
    """The trails with one more frame; who was not seen for as long as a trail is forgotten."""
    nowhere = np.full(2, np.nan)
    here = {
        int(track): pose[scores > 0].mean(0) if (scores > 0).any() else nowhere
        for track, pose, scores in zip(ids, keypoints, keypoint_scores, strict=True)
    }
    grown = {
        track: np.concatenate([trails.get(track, np.zeros((0, 2))), [here.get(track, nowhere)]])
        for track in {**trails, **here}
    }
    last = {track: way[-TRAIL:] for track, way in grown.items()}
    return {track: way for track, way in last.items() if not np.isnan(way).all()}


def draw_tracks(
    image: RgbImage,
    ids: Int[np.ndarray, " n"],
    keypoints: Float[np.ndarray, "n k 2"],
    keypoint_scores: Float[np.ndarray, "n k"],
    trails: Trails,
    skeleton: Skeleton,
    min_keypoint_score: float = MIN_KEYPOINT_SCORE,
    min_long_side: int = MIN_LONG_SIDE,
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The frame with its people, the same colour and number for the same id in every frame.

    Args:
        image: RGB.
        ids: 1 or more.
        keypoints: (x, y) in image pixels.
        keypoint_scores: joints below `min_keypoint_score` are left out.
        trails: drawn below the people, paler the older.
        skeleton: of the keypoints.
        min_keypoint_score: see `keypoint_scores`.
        min_long_side: smaller images are enlarged to it, pixels.

    Returns:
        RGB.
    """
    canvas, points = enlarged(image, np.asarray(keypoints, np.float64), min_long_side)
    factor = canvas.shape[1] / image.shape[1]
    canvas = _with_trails(canvas, {track: factor * way for track, way in trails.items()})
    scores = np.asarray(keypoint_scores)
    shown = scores >= max(min_keypoint_score, np.finfo(float).tiny)
    order = np.argsort(scores.mean(-1), kind="stable")
    labels = [str(track) for track in ids]
    poses = Poses(points, shown, shown, order, labels, person=np.asarray(ids) - 1)
    return draw_poses(canvas, poses, skeleton)


def _with_trails(canvas: RgbImage, trails: Trails) -> RgbImage:
    """The canvas with lines through the points of each trail, opaque at the newest."""
    ink, cover = canvas.copy(), np.zeros(canvas.shape[:2], np.uint8)
    width = max(2, max(canvas.shape[:2]) // THICKNESS)
    for track, way in trails.items():
        ages = np.arange(TRAIL - len(way) + 1, TRAIL)  # the newest piece is the last
        for age, start, end in zip(ages, way[:-1], way[1:], strict=True):
            if np.isfinite([start, end]).all():
                ends = tuple(map(round, start)), tuple(map(round, end))
                cv2.line(ink, *ends, person_color(track - 1), width, cv2.LINE_AA)
                cv2.line(cover, *ends, int(255 * age / TRAIL), width, cv2.LINE_AA)
    if not cover.any():
        return canvas
    alpha = cover[..., None] / 255.0
    return np.round(ink * alpha + canvas * (1 - alpha)).astype(np.uint8)
