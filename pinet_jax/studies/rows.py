"""The rows of the paper's tables, and what is expected of them before any is run.

A row is a training (some config overrides) and whether its poses are fused: rows with and
without pose fusion (PF) share their weights. All published numbers are of OCHuman, trained on
val, scored on test, HRNet-W32, 512 pixels, flip, one scale (PINet, section 4.2).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pinet_jax.errors import UserError

Overrides = Mapping[str, Any]

TRAININGS: Mapping[str, Overrides] = {  # in the order of the claims
    "center": {"model.partition": "center", "model.refinement": False},
    "head": {"model.partition": "head", "model.refinement": False},
    "part-large": {"model.partition": "part-large", "model.refinement": False},
    "full": {"model.partition": "part-large", "model.refinement": True},
    "static": {"model.partition": "part-large", "model.graph": "static"},
    "none": {"model.partition": "part-large", "model.graph": "none"},
    "part-small": {"model.partition": "part-small", "model.refinement": False},
    "keypoint": {"model.partition": "keypoint", "model.refinement": False},
    "dekr": {  # with its own targets, in proportion to the small maps and network
        "model.method": "dekr",
        "model.keypoint_channels": 6,
        "targets.center_sigma": 2.0,
        "targets.square_radius": 3,
        "losses.offset_weight": 0.5,  # its weights are smaller, by the diagonal of a box
    },
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: unique; of a flag and of a table's line.
        title: what it is, for people.
        training: key of TRAININGS.
        fusion: whether poses are fused.
        published: AP, AP50, AP75 in percent; None where the paper does not give it.
        tables: of the paper that have it.
    """

    name: str
    title: str
    training: str
    fusion: bool
    published: tuple[float | None, float | None, float | None]
    tables: str


_NONE = (None, None, None)

ROWS = (
    Row("center", "center (SPM*)", "center", False, (47.6, 67.5, 53.2), "1a 1b 1d 2"),
    Row("center+PF", "center + PF", "center", True, (48.1, None, None), "1d"),
    Row("head", "head", "head", False, (49.8, 70.9, 55.6), "1b"),
    Row("head+PF", "head + PF", "head", True, _NONE, ""),
    Row("part-large", "part-large (PPG)", "part-large", False, (53.1, 70.5, 60.4), "1a 1b 1d"),
    Row("part-large+PF", "part-large + PF", "part-large", True, (55.8, 72.7, 62.3), "1a 1d"),
    Row("PPG+PR", "PPG + PR", "full", False, (58.8, 74.3, 65.5), "1a"),
    Row("full", "PPG + PR + PF, dynamic graph", "full", True, (59.8, 74.9, 65.9), "1a 1c 2"),
    Row("static", "static graph (PF on)", "static", True, (57.7, 74.7, 64.3), "1c"),
    Row("static-PF", "static graph, no PF", "static", False, _NONE, ""),
    Row("none", "no graph (PF on)", "none", True, (56.8, 74.1, 63.0), "1c"),
    Row("none-PF", "no graph, no PF", "none", False, _NONE, ""),
    Row("part-small", "part-small", "part-small", False, (50.3, 69.4, 57.2), "1b"),
    Row("part-small+PF", "part-small + PF", "part-small", True, _NONE, ""),
    Row("keypoint", "keypoint", "keypoint", False, (40.8, 59.0, 45.7), "1b"),
    Row("keypoint+PF", "keypoint + PF", "keypoint", True, _NONE, ""),
    Row("dekr", "DEKR", "dekr", False, (52.2, 69.9, 56.6), "1d 2"),
    Row("dekr+PF", "DEKR + PF", "dekr", True, (53.0, None, None), "1d"),
)
_BY_NAME = {row.name: row for row in ROWS}

MUST, OPEN = "must hold", "open"


@dataclasses.dataclass(frozen=True)
class Claim:
    """One row is better than another: AP(better) - AP(worse) > 0, or >= 0.

    Attributes:
        text: the claim, for people.
        better: name of the row that should have the higher AP.
        worse: of the other.
        weight: MUST if the study stands and falls with it, OPEN if it is only reported.
        at_least: whether equality fulfils it.
    """

    text: str
    better: str
    worse: str
    weight: str
    at_least: bool = False


CLAIMS = (
    Claim("the head beats the centre", "head", "center", MUST),
    Claim("parts beat the head", "part-large", "head", MUST),
    Claim("parts beat the centre", "part-large", "center", MUST),
    Claim("refinement beats proposals", "PPG+PR", "part-large", MUST),
    Claim("fusion helps the centre", "center+PF", "center", MUST, at_least=True),
    Claim("fusion helps the head", "head+PF", "head", MUST, at_least=True),
    Claim("fusion helps parts", "part-large+PF", "part-large", MUST, at_least=True),
    Claim("fusion helps refined parts", "full", "PPG+PR", MUST, at_least=True),
    Claim("a static graph beats none", "static", "none", OPEN),
    Claim("a dynamic graph beats a static one", "full", "static", OPEN),
    Claim("large parts beat small ones", "part-large", "part-small", OPEN),
    Claim("large parts beat single keypoints", "part-large", "keypoint", OPEN),
    Claim("DEKR beats SPM", "dekr", "center", OPEN),
    Claim("fusion helps DEKR", "dekr+PF", "dekr", OPEN, at_least=True),
)


@dataclasses.dataclass(frozen=True)
class GainClaim:
    """One pair of rows differs more than another: (a - b) - (c - d) > 0.

    Attributes:
        text: the claim, for people.
        gain: names (a, b).
        other: names (c, d).
        weight: as of a Claim.
    """

    text: str
    gain: tuple[str, str]
    other: tuple[str, str]
    weight: str


GAIN_CLAIMS = (
    GainClaim(
        "fusion gains more across parts than on the centre",
        ("part-large+PF", "part-large"),
        ("center+PF", "center"),
        MUST,
    ),
)
# AP falls from each level of crowding to the next, for these rows, and the gain of parts grows
# from the first level to the last (Fig. 5).
FALLING = ("center", "part-large", "full")
GROWING = ("part-large", "center")


def row(name: str) -> Row:
    """The row called `name`; UserError names the known ones."""
    if name not in _BY_NAME:
        raise UserError(f"--rows: no row '{name}'; use some of {', '.join(_BY_NAME)}.")
    return _BY_NAME[name]


def trainings_of(names: list[str]) -> list[str]:
    """The trainings that the rows need, in the order of the claims."""
    wanted = {row(name).training for name in names}
    return [name for name in TRAININGS if name in wanted]
