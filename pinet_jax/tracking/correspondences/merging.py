"""Tracks that are the same person before and after a gap (step 8); needs the whole video."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from pinet_jax.tracking.frames import Detections, Tracked, areas, boxes, pose_oks

# People, the frame that each is of, and the frame they are wanted in -> joints there and R.
Warp = Callable[
    [Detections, Int[np.ndarray, " n"], int],
    tuple[Float[np.ndarray, "n k 2"], Float[np.ndarray, "n k"]],
]


def continuations(
    frames: Sequence[Tracked],
    size: tuple[int, int],
    warp: Warp,
    sigmas: Sequence[float],
    config: ConfigDict,
) -> dict[int, int]:
    """From the id of a later track to that of the track that it continues.

    Of tracks one after the other, the pairs most alike first, each end once.

    Args:
        frames: tracked people of every frame.
        size: height and width of a frame.
        warp: finds people in another frame.
        sigmas: the skeleton's K constants.
        config: config.tracking.
    """
    spans = _spans(frames)
    pairs = []
    for later, times in spans.items():
        earlier = [
            track
            for track, before in spans.items()
            if 0 < times[0] - before[-1] <= config.merge_gap
        ]
        if earlier:
            alike = _alike(frames, spans, earlier, later, size, warp, sigmas, config)
            pairs += [(s, q, later) for q, s in zip(earlier, alike, strict=True)]
    return _best(pairs, config.merge_oks)


def _spans(frames: Sequence[Tracked]) -> dict[int, list[int]]:
    """The frames of each id, rising."""
    spans: dict[int, list[int]] = {}
    for frame, people in enumerate(frames):
        for track in people.ids.tolist():
            spans.setdefault(track, []).append(frame)
    return spans


def _alike(
    frames: Sequence[Tracked],
    spans: dict[int, list[int]],
    earlier: Sequence[int],
    later: int,
    size: tuple[int, int],
    warp: Warp,
    sigmas: Sequence[float],
    config: ConfigDict,
) -> Float[np.ndarray, " q"]:
    """Of each earlier track the mean OKS of three of its poses, warped, to the later's first."""
    first = spans[later][0]
    times = np.array([_ends_and_middle(spans[track]) for track in earlier])
    poses = [
        _of(frames[frame], track)
        for track, row in zip(earlier, times, strict=True)
        for frame in row
    ]
    people = Detections(
        np.concatenate([p.keypoints for p in poses]),
        np.concatenate([p.keypoint_scores for p in poses]),
    )
    warped, scores = warp(people, times.reshape(-1), first)
    person = _of(frames[first], later)
    valid = person.valid(config.valid_score)
    margin = config.box_margin * max(size) / config.view_size
    area = areas(boxes(person.keypoints, valid, margin, size))
    there = scores >= config.warp_score
    alike = pose_oks(warped, there, person.keypoints, valid, area, sigmas)
    return alike.reshape(len(earlier), 3).mean(1)


def _ends_and_middle(times: Sequence[int]) -> list[int]:
    return [times[0], times[len(times) // 2], times[-1]]


def _of(people: Tracked, track: int) -> Detections:
    """The person of that id."""
    here = people.ids == track
    return Detections(people.keypoints[here], people.keypoint_scores[here])


def _best(pairs: Sequence[tuple[float, int, int]], least: float) -> dict[int, int]:
    """Pairs above `least`, by falling score, no track twice as the earlier or as the later."""
    continued: dict[int, int] = {}
    for alike, earlier, later in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:])):
        if alike > least and later not in continued and earlier not in continued.values():
            continued[later] = earlier
    return continued
