"""AP by how crowded it is: by persons' box IoU (the paper's Fig. 5) and images' crowdIndex."""

import dataclasses
import itertools
import math
import os
from collections.abc import Mapping, Sequence

from pinet_jax import visualize
from pinet_jax.errors import UserError
from pinet_jax.evaluation.coco_annotations import counts
from pinet_jax.evaluation.scoring import Scorer, percent
from pinet_jax.runtime import tables
from pinet_jax.visualize import figures

# Edges of the intervals of CrowdPose's crowdIndex, which has no upper bound (3.02 in its val);
# easy is the first, hard the last.
CROWD_INDEX_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, math.inf)

TITLES = {"by_box_iou": "box IoU with the nearest", "by_crowd_index": "crowdIndex of the image"}


@dataclasses.dataclass(frozen=True)
class Level:
    """The score in one interval of crowding.

    Attributes:
        low: lower end, inside.
        high: upper end, outside; inside for the last interval of several; infinite where
            there is no upper bound.
        ap: in [0, 1]; -1 without a person.
        persons: to be found.
    """

    low: float
    high: float
    ap: float
    persons: int


def levels(scorer: Scorer, iou_edges: Sequence[float]) -> dict[str, list[Level]]:
    """AP by crowding, of every kind that the data has: the keys are those of `TITLES`."""
    found = {"by_box_iou": by_box_iou(scorer, iou_edges)}
    if scorer.truth.crowd_index is not None:
        found["by_crowd_index"] = by_crowd_index(scorer, CROWD_INDEX_EDGES)
    return found


def by_box_iou(scorer: Scorer, edges: Sequence[float]) -> list[Level]:
    """AP of the persons whose largest box IoU with another person lies in each interval.

    Only the images with such a person count. The others in them are ignored as the COCO
    tools ignore objects of another size: a detection matched with one is neither right
    nor wrong. One that matches nobody is wrong.
    """
    inside = _sorted_into(scorer.truth.box_iou(), edges)
    return [
        Level(low, high, scorer.finding(persons).scores(["AP"])["AP"], len(persons))
        for (low, high), persons in inside.items()
    ]


def by_crowd_index(scorer: Scorer, edges: Sequence[float]) -> list[Level]:
    """AP on the images whose crowdIndex lies in each interval (truth.crowd_index is there)."""
    persons = [person["image_id"] for person in scorer.truth.persons if counts(person)]
    inside = _sorted_into(scorer.truth.crowd_index, edges)
    return [
        Level(
            *(low, high, scorer.scores(["AP"], images)["AP"]),
            persons=sum(image_id in images for image_id in persons),
        )
        for (low, high), images in inside.items()
    ]


def table(found: Mapping[str, Sequence[Level]]) -> str:
    """AP in percent under each interval, with the number of persons, for people to read."""
    blocks = []
    for key, row in found.items():
        cells = ([_interval(level), percent(level.ap), str(level.persons)] for level in row)
        columns = ([TITLES[key], "AP", "persons"], *cells)
        blocks.append(tables.aligned(list(zip(*columns, strict=True))))
    return "\n".join(blocks)


def as_json(found: Mapping[str, Sequence[Level]]) -> dict[str, list[dict[str, float | None]]]:
    """The levels as JSON holds them, which has no infinity: `high` is then None."""

    def entry(level: Level) -> dict[str, float | None]:
        high = None if math.isinf(level.high) else level.high
        return {"low": level.low, "high": high, "AP": level.ap, "persons": level.persons}

    return {key: list(map(entry, row)) for key, row in found.items()}


def plot(found: Mapping[str, Sequence[Level]], path: str | os.PathLike) -> None:
    """Draws bars of AP with the number of persons under each.

    Raises:
        UserError: the PNG cannot be written.
    """
    figure = figures.figure(5.2 * len(found), 3.4)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (key, row) in zip(panels, found.items(), strict=True):
        _bars(axes, row)
        axes.set_xlabel(TITLES[key])
    visualize.save_png(figures.rendered(figure), path)


def _bars(axes, row: Sequence[Level]) -> None:
    heights = [100 * max(level.ap, 0) for level in row]
    bars = axes.bar(range(len(row)), heights, color="#4477aa", width=0.75)
    axes.bar_label(bars, [percent(level.ap) for level in row], padding=2)
    labels = [f"{_interval(level)}\n{_persons(level)}" for level in row]
    axes.set_xticks(range(len(row)), labels, fontsize=8)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("AP")
    axes.spines[["top", "right"]].set_visible(False)


def _sorted_into(
    values: Mapping[int, float], edges: Sequence[float]
) -> dict[tuple[float, float], set[int]]:
    """(low, high) of each interval -> the keys whose value lies in it."""
    if len(edges) < 2 or list(edges) != sorted(set(edges)):
        raise UserError(
            f"config.eval.iou_intervals: {tuple(edges)} must be two or more rising edges."
        )
    return {
        (low, high): {
            key
            for key, value in values.items()
            if low <= value < high or value == high == edges[-1]
        }
        for low, high in itertools.pairwise(edges)
    }


def _interval(level: Level) -> str:
    low, high = float(level.low), float(level.high)
    return f"{low}+" if math.isinf(high) else f"{low}-{high}"


def _persons(level: Level) -> str:
    return "1 person" if level.persons == 1 else f"{level.persons} persons"
