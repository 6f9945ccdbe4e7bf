"""What a study's scores say of the paper's claims."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from pinet_jax.studies import rows, statistics
from pinet_jax.studies.scoring import RowScores
from pinet_jax.studies.statistics import Interval, Scores, difference, interval, mean_of, verdict

SEEDS_SEED = 1  # of the bootstrap's seeds

Known = Mapping[str, RowScores]  # by the row's name
Seeds = Int[np.ndarray, "n s"] | None


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim and what became of it.

    Attributes:
        text: the claim.
        rows: what it compares.
        weight: rows.MUST or rows.OPEN.
        found: the difference of AP; None where a row is missing.
        verdict: a word of `statistics`.
    """

    text: str
    rows: str
    weight: str
    found: Interval | None
    verdict: str


def findings(known: Known, config: ConfigDict) -> list[Finding]:
    """All claims, in the order of the study."""
    study = config.study
    return [
        *(_claim(claim, known, study) for claim in rows.CLAIMS),
        *(_gain(claim, known, study) for claim in rows.GAIN_CLAIMS),
        *_falling(known, study),
        _growing(known, study),
    ]


def _claim(claim: rows.Claim, known: Known, study: ConfigDict) -> Finding:
    named = f"{claim.better} - {claim.worse}"
    if not {claim.better, claim.worse} <= set(known):
        return Finding(claim.text, named, claim.weight, None, statistics.MISSING)
    better, worse = _same_seeds(known, claim.better, claim.worse)
    seeds = _seeds(better, worse, study)
    found = difference(better.final, worse.final, seeds, study.confidence)
    earlier = [float(np.mean(better.at[s] - worse.at[s])) for s in study.scored_at[:-1]]
    word = verdict(found, earlier[-1] if earlier else None, claim.at_least)
    return Finding(claim.text, named, claim.weight, found, word)


def _gain(claim: rows.GainClaim, known: Known, study: ConfigDict) -> Finding:
    (a, b), (c, d) = claim.gain, claim.other
    named = f"({a} - {b}) - ({c} - {d})"
    if not {a, b, c, d} <= set(known):
        return Finding(claim.text, named, claim.weight, None, statistics.MISSING)
    four = _same_seeds(known, a, b, c, d)
    seeds = _seeds(four[0], four[2], study)
    found = _double_difference([row.final for row in four], seeds, study.confidence)
    return Finding(claim.text, named, claim.weight, found, verdict(found))


def _falling(known: Known, study: ConfigDict) -> Iterator[Finding]:
    """AP at each level of crowding above that at the next one."""
    for name in rows.FALLING:
        for low, high in itertools.pairwise(study.levels):
            text = f"AP of {name} falls from box IoU {low:g} to {high:g}"
            named = f"{name} at {low:g} - at {high:g}"
            if name not in known:
                yield Finding(text, named, rows.MUST, None, statistics.MISSING)
                continue
            row = known[name]
            seeds = _seeds_of(row, study)
            # Scene i of every level comes of the same random numbers, so they pair.
            found = difference(row.by_level[low], row.by_level[high], seeds, study.confidence)
            yield Finding(text, named, rows.MUST, found, verdict(found))


def _growing(known: Known, study: ConfigDict) -> Finding:
    """The gain of parts on the most crowded scenes above that on the least crowded."""
    better, worse = rows.GROWING
    low, high = study.levels[0], study.levels[-1]
    text = f"the gain of parts grows from box IoU {low:g} to {high:g}"
    named = f"({better} - {worse}) at {high:g} - at {low:g}"
    if not {better, worse} <= set(known):
        return Finding(text, named, rows.MUST, None, statistics.MISSING)
    parts, whole = _same_seeds(known, better, worse)
    four = [row.by_level[level] for level in (high, low) for row in (parts, whole)]
    found = _double_difference(four, _seeds(parts, whole, study), study.confidence)
    return Finding(text, named, rows.MUST, found, verdict(found))


def _double_difference(four: list[Scores], seeds: Seeds, confidence: float) -> Interval:
    """(a - b) - (c - d)."""
    value, drawn = 0.0, np.zeros(four[0].drawn.shape[1])
    for sign, scores in zip((1, -1, -1, 1), four, strict=True):
        mean, means = mean_of(scores, seeds)
        value, drawn = value + sign * mean, drawn + sign * means
    return interval(value, drawn, confidence)


def _same_seeds(known: Known, *names: str) -> list[RowScores]:
    """The rows with the seeds that all of them have; they are run from 0 up."""
    count = min(len(known[name].seeds) for name in names)
    return [known[name].first(count) for name in names]


def _seeds(a: RowScores, b: RowScores, study: ConfigDict) -> Seeds:
    """Draws of seeds; None for rows that share their weights."""
    return None if a.row.training == b.row.training else _seeds_of(a, study)


def _seeds_of(row: RowScores, study: ConfigDict) -> Int[np.ndarray, "n s"]:
    return statistics.seed_draws(len(row.seeds), study.draws, SEEDS_SEED)


def spread(row: RowScores, config: ConfigDict) -> Interval:
    """AP of a row at the end of its training, over seeds and images."""
    return spread_of(row, row.final, config)


def spread_of(row: RowScores, scores: Scores, config: ConfigDict) -> Interval:
    """The same of some of the row's scores."""
    value, drawn = mean_of(scores, _seeds_of(row, config.study))
    return interval(value, drawn, config.study.confidence)


def warn_of_spread(known: Known, config: ConfigDict) -> str:
    """A sentence where rows scatter too much for the study's size; else empty."""
    study = config.study
    halves = {
        name: spread(row, config).half
        for name, row in known.items()
        if len(row.seeds) == study.seeds
    }
    wide = {name: half for name, half in halves.items() if half > study.max_half_interval}
    if not wide:
        return ""
    named = ", ".join(f"{name} ({100 * half:.1f})" for name, half in wide.items())
    return (
        f"The half interval of {named} exceeds {100 * study.max_half_interval:g} AP: double "
        "config.study.images, in another folder, before adding rows."
    )
