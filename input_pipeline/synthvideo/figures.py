"""How hard the videos of a kind are, in figures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from input_pipeline.synthvideo.render import Frames
from input_pipeline.synthvideo.truth import scored
from pinet_jax.skeletons import COCO


class Figures(NamedTuple):
    """Of some videos of a kind.

    Attributes:
        people: scored in a frame, on average.
        own_oks: of a person to itself a frame later, on average.
        hidden_and_back: how often a person is not scored for a while and then again.
        gap: frames of such a while, on average.
        hidden_joints: share of the joints in the picture.
    """

    people: float
    own_oks: float
    hidden_and_back: int
    gap: float
    hidden_joints: float


def figures(videos: Sequence[Frames], min_seen: int) -> Figures:
    """The figures of videos of one kind.

    Args:
        videos: at least one.
        min_seen: joints seen of a person who is scored.
    """
    counted = [scored(video, min_seen) for video in videos]
    oks = np.concatenate([_own_oks(v, there) for v, there in zip(videos, counted, strict=True)])
    gaps = [gap for there in counted for person in there.T for gap in _gaps(person)]
    visibility = np.concatenate([video.keypoints[..., 2].ravel() for video in videos])
    return Figures(
        people=float(np.mean([there.sum(1).mean() for there in counted])),
        own_oks=float(oks.mean()) if len(oks) else float("nan"),
        hidden_and_back=len(gaps),
        gap=float(np.mean(gaps)) if gaps else 0.0,
        hidden_joints=float((visibility == 1).sum() / max((visibility > 0).sum(), 1)),
    )


def _own_oks(video: Frames, there: np.ndarray) -> np.ndarray:
    """OKS of everybody to themselves a frame later, over joints labelled in both frames."""
    before, after = video.keypoints[:-1], video.keypoints[1:]
    both = (before[..., 2] > 0) & (after[..., 2] > 0)
    distance2 = ((before[..., :2] - after[..., :2]) ** 2).sum(-1)
    scale = np.maximum(video.area[:-1], 1)[..., None] * (2 * np.array(COCO.sigmas)) ** 2
    oks = (np.exp(-distance2 / scale / 2) * both).sum(-1) / np.maximum(both.sum(-1), 1)
    return oks[there[:-1] & there[1:]]


def _gaps(there: np.ndarray) -> list[int]:
    """Lengths of the stretches of False between two True."""
    seen = np.flatnonzero(there)
    steps = np.diff(seen)
    return (steps[steps > 1] - 1).tolist()
