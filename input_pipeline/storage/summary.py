"""What was prepared, as a table beside the published counts."""

from collections.abc import Mapping
from typing import Any

from pinet_jax.runtime import tables

Summaries = Mapping[str, Mapping[str, Any]]

ROWS = {
    "images": "images",
    "images_with_persons": "images with persons",
    "persons": "persons with keypoints",
    "persons_scored": "persons scored (num_keypoints > 0)",
    "keypoints": "labelled keypoints",
    "masked": "masked (crowd or unlabelled)",
    "sizes_differ": "sizes in the JSON unlike the image",
}


def table(summaries: Summaries) -> str:
    """A column a split: counts, and what was skipped by kind.

    Args:
        summaries: split -> its summary.
    """
    lines = [("", *summaries)]
    for row, name in ROWS.items():
        counts = [f"{summary['counts'][row]:,}" for summary in summaries.values()]
        lines.append((name, *counts))
    kinds = sorted({kind for summary in summaries.values() for kind in summary["skipped"]})
    for kind in kinds or ["nothing"]:
        counts = [str(summary["skipped"].get(kind, 0)) for summary in summaries.values()]
        lines.append((f"skipped: {kind}", *(counts if kinds else [""] * len(counts))))
    return tables.aligned(lines)


def published(summaries: Summaries, counts: Mapping[str, Mapping[str, int | str]]) -> str:
    """A line for every published count, and whether it matches.

    Args:
        summaries: split -> its summary.
        counts: split, or splits joined by "+" -> row -> published count. What is not
            prepared is left out.
    """
    lines = []
    for splits, rows in counts.items():
        if not set(splits.split("+")) <= set(summaries):
            continue
        for row, count in rows.items():
            here = sum(summaries[split]["counts"][row] for split in splits.split("+"))
            lines.append(f"  {splits}: {ROWS[row]} {_verdict(here, count)}")
    if not lines:
        return ""
    title = "Published counts (a part of the dataset, such as a sample, has others):"
    return "\n".join([title, *lines])


def _verdict(here: int, count: int | str) -> str:
    if isinstance(count, str):
        return f"{count}, here {here:,}"
    verdict = "matches" if here == count else "differs"
    return f"{count:,}, here {here:,}: {verdict}"
