"""The people of one frame of a video, and how alike two sets of poses are.

Everything here is NumPy on the host: a frame holds at most some 80 people.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Detections:
    """The n people found in a frame.

    Attributes:
        keypoints: (x, y) in image pixels.
        keypoint_scores: of each joint; 0 where it is not there.
    """

    keypoints: Float[np.ndarray, "n k 2"]
    keypoint_scores: Float[np.ndarray, "n k"]

    def __len__(self) -> int:
        return len(self.keypoints)

    def take(self, rows: np.ndarray) -> "Detections":
        """Those that indices or a mask name."""
        values = {f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)}
        return type(self)(**values)

    def valid(self, least: float) -> Bool[np.ndarray, "n k"]:
        """Joints of a score of at least `least` (config.tracking.valid_score)."""
        return self.keypoint_scores >= least

    @property
    def scores(self) -> Float[np.ndarray, " n"]:
        """Mean joint score of each person."""
        return self.keypoint_scores.mean(-1)


@dataclasses.dataclass(frozen=True)
class Tracked(Detections):
    """The n people of a frame with their identities; fulfils `evaluation.results.FoundPeople`.

    Attributes:
        ids: of the track that each belongs to, 1 or more; none twice in a frame.
    """

    ids: Int[np.ndarray, " n"]


def nobody(num_keypoints: int) -> Detections:
    """A frame without people."""
    return Detections(np.zeros((0, num_keypoints, 2)), np.zeros((0, num_keypoints)))


def join(first: Detections, second: Detections) -> Detections:
    """The people of both, those of `second` last."""
    return Detections(
        np.concatenate([first.keypoints, second.keypoints]),
        np.concatenate([first.keypoint_scores, second.keypoint_scores]),
    )


def boxes(
    keypoints: Float[np.ndarray, "n k 2"],
    valid: Bool[np.ndarray, "n k"],
    margin: float,
    size: tuple[int, int],
) -> Float[np.ndarray, "n 4"]:
    """Boxes around the valid joints (TRACKING, section 3, step 4).

    Args:
        keypoints: (x, y), pixels.
        valid: joints that count.
        margin: pixels that a box reaches beyond the outermost joints.
        size: height and width of the image, to which boxes are clipped.

    Returns:
        x0, y0, x1, y1; zeros for a person without a valid joint.
    """
    here = valid[..., None]
    low = np.where(here, keypoints, np.inf).min(1, initial=np.inf) - margin
    high = np.where(here, keypoints, -np.inf).max(1, initial=-np.inf) + margin
    corner = np.array(size[::-1], float)
    corners = np.clip(np.concatenate([low, high], 1), 0, np.tile(corner, 2))
    return np.where(valid.any(1)[:, None], corners, 0.0)


def areas(corners: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Areas of boxes x0, y0, x1, y1."""
    return (corners[:, 2:] - corners[:, :2]).prod(-1)


def pose_oks(
    poses: Float[np.ndarray, "m k 2"],
    valid: Bool[np.ndarray, "m k"],
    others: Float[np.ndarray, "n k 2"],
    others_valid: Bool[np.ndarray, "n k"],
    others_area: Float[np.ndarray, " n"],
    sigmas: Sequence[float],
) -> Float[np.ndarray, "m n"]:
    """Object keypoint similarity of every pose to every other one.

    The mean over the joints valid in both of exp(-d^2 / (2 area (2 sigma)^2)); 0 where no joint
    is valid in both (TRACKING, section 3, step 4).

    Args:
        poses: (x, y), pixels.
        valid: their joints that count.
        others: (x, y), pixels.
        others_valid: their joints that count.
        others_area: the scale, pixels squared.
        sigmas: the skeleton's K constants.
    """
    distance2 = ((poses[:, None] - others) ** 2).sum(-1)
    variance = (2 * np.asarray(sigmas)) ** 2
    scale = np.maximum(others_area, 1e-9)[:, None]
    both = valid[:, None] & others_valid
    alike = np.where(both, np.exp(-distance2 / (2 * scale * variance)), 0.0)
    return alike.sum(-1) / np.maximum(both.sum(-1), 1)
