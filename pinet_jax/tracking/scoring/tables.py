"""The scores of tracks as rows of text."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pinet_jax.runtime import tables
from pinet_jax.tracking.scoring.protocols import TOTAL

Rows = list[list[str]]
GROUPS = {  # as PoseTrack's tables are headed
    "Head": ("nose", "head_bottom", "head_top"),
    "Shou": ("left_shoulder", "right_shoulder"),
    "Elb": ("left_elbow", "right_elbow"),
    "Wri": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankl": ("left_ankle", "right_ankle"),
    "Total": (TOTAL,),
}
PEOPLE = ("MOTA", "IDF1", "HOTA", "DetA", "AssA", "MOTP", "IDSW", "FP", "FN", "MT", "ML", "Frag")
COUNTED = ("IDSW", "FP", "FN", "MT", "ML", "Frag")
HOTA_ROWS = ("HOTA", "FA-HOTA", "DetA", "AssA", "FragA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA")


def joints(scores: Mapping) -> Rows:
    """AP, MOTA, MOTP and HOTA of groups of joints, percent; both variants where they differ."""
    rows = [["", "variant", *GROUPS]]
    rows.append(["AP", "", *_grouped(scores["posetrack_ap"]["ap"])])
    for score in ("mota", "motp", "precision", "recall"):
        rows += _by_variant(score.upper(), scores["posetrack18"], score, 1)
    for score in HOTA_ROWS:
        rows += _by_variant(score, scores["posetrack21"], score, 100)
    return rows


def _by_variant(title: str, variants: Mapping, score: str, factor: float) -> Iterator[list[str]]:
    cells = {name: _grouped(values[score], factor) for name, values in variants.items()}
    if len(set(map(tuple, cells.values()))) == 1:
        yield [title, "", *next(iter(cells.values()))]
    else:
        yield from ([title, name, *row] for name, row in cells.items())


def _grouped(values: Mapping[str, float], factor: float = 1) -> list[str]:
    """The mean of each group of joints."""
    means = (np.mean([values[joint] for joint in joints]) for joints in GROUPS.values())
    return [f"{factor * mean:.2f}" if np.isfinite(mean) else "-" for mean in means]


def people(scores: Mapping) -> Rows:
    """CLEAR, Identity and HOTA by OKS: a row a video, percent, and one of all; counts as such."""
    videos = {**scores["by_video"], "all": scores["combined"]}
    return [["video", *PEOPLE]] + [
        [name, *(_people_cell(column, values[column]) for column in PEOPLE)]
        for name, values in videos.items()
    ]


def _people_cell(column: str, value: float) -> str:
    return f"{value:.0f}" if column in COUNTED else f"{100 * value:.2f}"


def text(rows: Sequence[Sequence[str]]) -> str:
    """Rows for a terminal."""
    return tables.aligned(rows)
