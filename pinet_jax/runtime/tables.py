"""Tables of text."""

from collections.abc import Sequence

from tabulate import tabulate


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A line a row, the heads among them: the first column to the left, the others to the right."""
    sides = ("left", *("right" for _ in rows[0][1:]))
    return tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=sides)
