"""The end of tracks (TRACKING, section 3, step 7): what is uncertain or too short is removed.

Joints of a low score go, then people without a joint, then tracks of too few frames. Whether a
track will be long enough shows some frames later, so frames wait until all their people are
decided: at most (min_length - 1) * (max_age + 1) frames, however long the video is. A track that
is live for longer without enough certain frames loses its first ones.
"""

import dataclasses
from collections.abc import Collection, Mapping, Set
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from pinet_jax.tracking.frames import Tracked

Frame = tuple[Any, Tracked]  # what the caller knows a frame by, and its people


@dataclasses.dataclass(frozen=True)
class Waiting:
    """Frames that are not decided yet.

    Attributes:
        frames: in their order.
        lengths: frames so far of every live track that is not long enough yet.
        names: what live tracks that are long enough are called: numbers from 1, by appearance.
        named: how many have been named.
    """

    frames: tuple[Frame, ...] = ()
    lengths: Mapping[int, int] = dataclasses.field(default_factory=dict)
    names: Mapping[int, int | None] = dataclasses.field(default_factory=dict)
    named: int = 0


def pruned(people: Tracked, least: float) -> Tracked:
    """Without joints of a score below `least`, and then without people of no joint."""
    kept = people.keypoint_scores >= least
    left = dataclasses.replace(
        people,
        keypoints=np.where(kept[..., None], people.keypoints, 0.0),
        keypoint_scores=np.where(kept, people.keypoint_scores, 0.0),
    )
    return left.take(kept.any(1))


def add(
    waiting: Waiting, key: Any, people: Tracked, live: Collection[int], config: ConfigDict
) -> tuple[Waiting, list[Frame]]:
    """A frame joins those that wait; the frames that are decided now.

    Args:
        waiting: before the frame.
        key: given back with the frame.
        people: of the frame.
        live: ids of the tracks that may go on.
        config: config.tracking.
    """
    people = pruned(people, config.final_score)
    lengths, names = dict(waiting.lengths), dict(waiting.names)
    for track in people.ids.tolist():
        if track not in names:
            lengths[track] = lengths.get(track, 0) + 1
            if lengths[track] >= config.min_length:
                del lengths[track]
                names[track] = None  # named when its first frame goes out
    undecided = {track for track in lengths if track in live}
    grown = dataclasses.replace(
        waiting, frames=(*waiting.frames, (key, people)), lengths=lengths, names=names
    )
    most = (config.min_length - 1) * (config.max_age + 1)
    return _release(grown, undecided, live, most)


def finish(waiting: Waiting) -> list[Frame]:
    """The frames that still wait when the video has ended."""
    return _release(waiting, frozenset(), frozenset(), most=0)[1]


def _release(
    waiting: Waiting, undecided: Set[int], live: Collection[int], most: int
) -> tuple[Waiting, list[Frame]]:
    """The frames before the first one with somebody undecided, and those beyond `most`."""
    open_frames = (i for i, (_, p) in enumerate(waiting.frames) if undecided & {*p.ids.tolist()})
    count = max(next(open_frames, len(waiting.frames)), len(waiting.frames) - most)
    names, named, ready = dict(waiting.names), waiting.named, []
    for key, people in waiting.frames[:count]:
        people = people.take(np.array([track in names for track in people.ids.tolist()], bool))
        for track in people.ids.tolist():
            if names[track] is None:
                named += 1
                names[track] = named
        ids = np.array([names[track] for track in people.ids.tolist()], int)
        ready.append((key, dataclasses.replace(people, ids=ids)))
    left = waiting.frames[count:]
    needed = set(live).union(*(people.ids.tolist() for _, people in left))
    lengths, names = (
        {track: value for track, value in known.items() if track in needed}
        for known in (waiting.lengths, names)
    )
    return Waiting(left, lengths, names, named), ready
