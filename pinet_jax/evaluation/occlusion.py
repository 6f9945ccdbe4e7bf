"""How often a body partition leaves something to see: statistics of annotations alone.

docs/tools.md defines when a part of a person is visible, partly visible, hidden or unlabelled.
"""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from pinet_jax.errors import UserError
from pinet_jax.evaluation import ground_truth
from pinet_jax.runtime import tables
from pinet_jax.skeletons import Parts, Skeleton
from pinet_jax.visualize import figures

STATES = ("visible", "partly", "hidden", "unlabelled")  # of a part
_COLUMNS = ("partition", "parts", "some part visible", "keypoints seen", *STATES)
_STATE_COLORS = ("#1f5f99", "#9ec5e8", "#e08a4f", "#d9d9d9")


@dataclasses.dataclass(frozen=True)
class Occlusion:
    """Of one partition; shares in [0, 1].

    Attributes:
        num_parts: of a person.
        some_part_visible: share of persons with at least one part wholly visible.
        visible_keypoints: share of a part's labelled keypoints that are seen, averaged over
            all parts of all persons that are not unlabelled; NaN if there are none.
        states: share of all parts of all persons in each of STATES; they add up to 1.
    """

    num_parts: int
    some_part_visible: float
    visible_keypoints: float
    states: Mapping[str, float]


def occlusion(visibility: Float[np.ndarray, "n k"], parts: Parts) -> Occlusion:
    """The statistics of one partition.

    Args:
        visibility: v of each keypoint of at least one person: 2 seen, 1 hidden, 0 not labelled.
        parts: keypoint indices of each part.
    """
    labelled = np.stack([(visibility[:, list(p)] > 0).sum(1) for p in parts], axis=1)
    seen = np.stack([(visibility[:, list(p)] == 2).sum(1) for p in parts], axis=1)
    known = labelled > 0
    visible, hidden = known & (seen == labelled), known & (seen == 0)
    partly = known & ~visible & ~hidden
    states = dict(zip(STATES, (visible, partly, hidden, ~known), strict=True))
    shares = seen[known] / labelled[known]
    return Occlusion(
        num_parts=len(parts),
        some_part_visible=float(visible.any(axis=1).mean()),
        visible_keypoints=float(shares.mean()) if len(shares) else float("nan"),
        states={name: float(of_part.mean()) for name, of_part in states.items()},
    )


def of_partitions(visibility: Float[np.ndarray, "n k"], skeleton: Skeleton) -> dict[str, Occlusion]:
    """Each partition's statistics, by its name."""
    return {name: occlusion(visibility, parts) for name, parts in skeleton.partitions.items()}


def read_visibility(path: str | os.PathLike, skeleton: Skeleton) -> Float[np.ndarray, "n k"]:
    """v of every person's keypoints in a COCO-format annotation file.

    Raises:
        UserError: the file cannot be read, something in it is wrong, it is of another
            skeleton, or it has no person with a label.
    """
    persons = ground_truth.read_truth(path, skeleton).persons
    rows = [person["keypoints"][2::3] for person in persons if not person["iscrowd"]]
    labelled = [row for row in rows if any(row)]
    if not labelled:
        raise UserError(f"'{path}' has no person with a labelled keypoint: give another file.")
    return np.array(labelled, np.float32)


def table(statistics: Mapping[str, Occlusion]) -> str:
    """One line a partition, shares in percent."""
    return tables.aligned([_COLUMNS, *(_cells(*item) for item in statistics.items())])


def _cells(name: str, found: Occlusion) -> tuple[str, ...]:
    shares = (found.some_part_visible, found.visible_keypoints, *map(found.states.get, STATES))
    return (name, str(found.num_parts), *(f"{100 * share:.1f}" for share in shares))


def draw(statistics: Mapping[str, Occlusion], title: str) -> UInt8[np.ndarray, "h w 3"]:
    """Bars of the statistics, RGB: what a person shows, and the states of its parts."""
    figure = figures.figure(11, 4.2)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    left, right = figure.subplots(1, 2)
    _draw_persons(left, statistics)
    _draw_states(right, statistics)
    return figures.rendered(figure)


def _draw_persons(axes, statistics: Mapping[str, Occlusion]) -> None:
    bars = {
        "persons with a wholly visible part": [s.some_part_visible for s in statistics.values()],
        "keypoints of a part that are seen": [s.visible_keypoints for s in statistics.values()],
    }
    places = np.arange(len(statistics))
    for i, (label, shares) in enumerate(bars.items()):
        drawn = axes.bar(
            places + 0.4 * i - 0.2,
            100 * np.array(shares),
            0.38,
            label=label,
            color=_STATE_COLORS[i],
        )
        axes.bar_label(drawn, fmt="%.0f", fontsize=8)
    _style(axes, statistics)


def _draw_states(axes, statistics: Mapping[str, Occlusion]) -> None:
    bottom = np.zeros(len(statistics))
    for state, color in zip(STATES, _STATE_COLORS, strict=True):
        shares = 100 * np.array([s.states[state] for s in statistics.values()])
        label = f"parts {'partly visible' if state == 'partly' else state}"
        axes.bar(range(len(shares)), shares, 0.7, bottom=bottom, label=label, color=color)
        bottom += shares
    _style(axes, statistics)


def _style(axes, statistics: Mapping[str, Occlusion]) -> None:
    names = [f"{name}\n({found.num_parts})" for name, found in statistics.items()]
    axes.set_xticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(0, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("%", rotation=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=4, frameon=False)
