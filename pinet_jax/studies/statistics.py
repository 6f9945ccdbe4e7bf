"""Intervals and verdicts of AP differences, by a paired bootstrap over seeds and images.

Every row is scored on the same draws of images, and rows that differ in their training on the
same draws of seeds too; so what a draw does to both cancels out of their difference.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from pinet_jax.evaluation.resampling import Tally, average_precision

HELD, REVERSED = "held", "reversed"
NOT_RESOLVED, NOT_SETTLED = "not resolved", "not settled"
MISSING = "not run"

RECALL = np.linspace(0, 1, 101)  # of the COCO tools


@dataclasses.dataclass(frozen=True)
class Scores:
    """AP of a row, in [0, 1].

    Attributes:
        ap: of each of s seeds on all images.
        drawn: of each seed on each of n draws of images.
    """

    ap: Float[np.ndarray, " s"]
    drawn: Float[np.ndarray, "s n"]

    def first(self, count: int) -> "Scores":
        """The same of the first seeds alone."""
        return Scores(self.ap[:count], self.drawn[:count])


@dataclasses.dataclass(frozen=True)
class Interval:
    """A difference of AP, in [0, 1], with its interval."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2


def drawn_precision(tally: Tally, repeats: Int[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """AP on each draw of images.

    Args:
        tally: of an evaluation of m images.
        repeats: how often each image is in each draw.
    """
    return np.array([average_precision(tally, once, RECALL) for once in repeats])


def seed_draws(num_seeds: int, num_draws: int, seed: int) -> Int[np.ndarray, "n s"]:
    """Seeds of each bootstrap draw: as many as there are, with replacement."""
    return np.random.default_rng(seed).integers(num_seeds, size=(num_draws, num_seeds))


def mean_of(
    row: Scores, seeds: Int[np.ndarray, "n s"] | None
) -> tuple[float, Float[np.ndarray, " n"]]:
    """A row's mean AP over seeds, and the same in each draw.

    Args:
        row: its scores.
        seeds: of each draw; None keeps them all in every draw.
    """
    if seeds is None:
        return float(row.ap.mean()), row.drawn.mean(0)
    return float(row.ap.mean()), row.drawn[seeds, np.arange(len(seeds))[:, None]].mean(1)


def difference(
    better: Scores, worse: Scores, seeds: Int[np.ndarray, "n s"] | None, confidence: float
) -> Interval:
    """Mean AP of `better` minus that of `worse`, with its percentile interval.

    Args:
        better: scores of a row.
        worse: of another, of the same seeds and draws of images.
        seeds: of each draw; None where both rows share their weights, so that only images
            vary between them.
        confidence: of the interval, e.g. 0.95.
    """
    value, drawn = (
        a - b for a, b in zip(mean_of(better, seeds), mean_of(worse, seeds), strict=True)
    )
    return interval(value, drawn, confidence)


def interval(value: float, drawn: Float[np.ndarray, " n"], confidence: float) -> Interval:
    """The percentile interval of a value that was also computed in each draw."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high))


def verdict(found: Interval, earlier: float | None = None, at_least: bool = False) -> str:
    """What an interval says of the claim that the difference is positive.

    Args:
        found: the difference at the end of the training.
        earlier: the same at the last scored share before it; a difference that changed its
            sign since is not settled.
        at_least: whether no difference fulfils the claim too.
    """
    fulfilled = found.low > 0 or (at_least and found.low == 0)
    if not fulfilled and found.high >= 0:
        return NOT_RESOLVED
    if earlier is not None and earlier * found.value < 0:
        return NOT_SETTLED
    return HELD if fulfilled else REVERSED
