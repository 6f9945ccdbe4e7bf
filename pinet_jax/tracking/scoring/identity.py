"""IDF1: how long people keep one identity (Ristani et al., 2016), as TrackEval counts it."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from scipy.optimize import linear_sum_assignment

from pinet_jax.tracking.scoring.pairs import Pairs


def identity_counts(frames: Iterable[Pairs], least: float) -> dict[str, float]:
    """Frames right, missed and wrong when every person of the truth is one found id at most.

    Args:
        frames: similarities.
        least: a pair's similarity.
    """
    together, truth, found = Counter(), Counter(), Counter()
    for pairs in frames:
        truth.update(pairs.truth.tolist())
        found.update(pairs.found.tolist())
        rows, columns = np.nonzero(pairs.value >= least)
        ids = zip(pairs.truth[rows].tolist(), pairs.found[columns].tolist(), strict=True)
        together.update(ids)
    # Whoever has no partner loses all frames, so most frames together is the least cost.
    shared = np.array([[together[g, p] for p in found] for g in truth], float)
    right = 0.0
    if shared.size:
        right = float(shared[linear_sum_assignment(-shared)].sum())
    return {"IDTP": right, "IDFN": truth.total() - right, "IDFP": found.total() - right}


def identity_scores(counts: dict[str, float]) -> dict[str, float]:
    """IDF1, IDP and IDR of summed counts."""
    right, missed, wrong = counts["IDTP"], counts["IDFN"], counts["IDFP"]
    return {
        "IDF1": right / max(1.0, right + (missed + wrong) / 2),
        "IDP": right / max(1.0, right + wrong),
        "IDR": right / max(1.0, right + missed),
    }
