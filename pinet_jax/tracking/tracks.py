"""The tracks of a video: who is live, births and deaths (TRACKING, section 3, steps 6 and 7).

Pure functions on NumPy arrays: the state of a video goes in and out.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from pinet_jax.tracking.frames import Tracked

if TYPE_CHECKING:
    from pinet_jax.tracking.linkers import Links


@dataclasses.dataclass(frozen=True)
class Live:
    """t tracks that may be found again.

    Attributes:
        ids: rising.
        keypoints: (x, y) in image pixels where the track was last seen.
        keypoint_scores: of these joints.
        last_seen: number of the frame of that.
    """

    ids: Int[np.ndarray, " t"]
    keypoints: Float[np.ndarray, "t k 2"]
    keypoint_scores: Float[np.ndarray, "t k"]
    last_seen: Int[np.ndarray, " t"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class State:
    """The tracks before frame number `frame`; the next to be born gets `next_id`."""

    live: Live
    frame: int
    next_id: int


def start(num_keypoints: int) -> State:
    """Before the first frame."""
    nobody = Live(
        np.zeros(0, int),
        np.zeros((0, num_keypoints, 2)),
        np.zeros((0, num_keypoints)),
        np.zeros(0, int),
    )
    return State(nobody, frame=0, next_id=1)


def advance(state: State, links: "Links", config: ConfigDict) -> tuple[State, Tracked]:
    """The tracks after a frame, and its people with their ids, by rising id.

    Detections that no track took are born if enough of their joints are valid, the best first,
    so that ids do not depend on the detections' order.

    Args:
        state: before the frame.
        links: of the frame, to `state.live`.
        config: config.tracking.
    """
    matched = links.detection_of >= 0
    rows = links.detection_of[matched]
    born = _births(links, config)
    ids = np.concatenate([state.live.ids[matched], state.next_id + np.arange(len(born))])
    people = links.detections.take(np.concatenate([rows, born]))
    tracked = Tracked(people.keypoints, people.keypoint_scores, ids)
    live = _still_live(state, ~matched, tracked, config)
    return State(live, state.frame + 1, state.next_id + len(born)), tracked


def _births(links: "Links", config: ConfigDict) -> Int[np.ndarray, " b"]:
    """Detections that start a track, the best first."""
    people = links.detections
    free = ~links.duplicate
    free[links.detection_of[links.detection_of >= 0]] = False
    free &= people.valid(config.valid_score).sum(1) >= config.min_joints
    places = people.keypoints[:, 0]
    order = np.lexsort((places[:, 1], places[:, 0], -people.scores))
    return order[free[order]]


def _still_live(state: State, missed: np.ndarray, seen: Tracked, config: ConfigDict) -> Live:
    """Those seen in this frame, and those missed for at most max_age frames, the latest seen."""
    live = state.live
    kept = missed & (state.frame - live.last_seen <= config.max_age)
    now = np.full(len(seen), state.frame)
    joined = Live(
        np.concatenate([live.ids[kept], seen.ids]),
        np.concatenate([live.keypoints[kept], seen.keypoints]),
        np.concatenate([live.keypoint_scores[kept], seen.keypoint_scores]),
        np.concatenate([live.last_seen[kept], now]),
    )
    latest = np.lexsort((joined.ids, -joined.last_seen))[: config.max_people]
    order = latest[np.argsort(joined.ids[latest])]
    return Live(*(getattr(joined, f.name)[order] for f in dataclasses.fields(Live)))
