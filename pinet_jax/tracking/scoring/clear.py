"""CLEAR MOT: misses, false positives and switches, of joints by distance, of people by OKS.

Bernardin and Stiefelhagen, 2008. PoseTrack's and TrackEval's forms differ in which pairs they
keep from before: the last pair ever there, that of the frame before here.
"""

from collections.abc import Iterable

import numpy as np
from scipy.optimize import linear_sum_assignment

from pinet_jax.tracking.scoring.average_precision import NEAR
from pinet_jax.tracking.scoring.pairs import Pairs

COUNTS = ("misses", "switches", "false_positives", "objects", "detections")
MOSTLY, PARTLY = 0.8, 0.2  # of its frames in which an object is found
_FAR = 1e6  # cost of a pair that must not be; no sum of distances comes near


def joint_counts(frames: Iterable[tuple[Pairs, bool]]) -> dict[str, float]:
    """The counts of one joint in a video, and the sum of distances, as PoseTrack18 has them.

    Args:
        frames: distances, and whether the frame counts as one of nobody on either side: one
            object, one miss and one false positive (the official program's fault).
    """
    counts = dict.fromkeys(COUNTS, 0) | {"distance": 0.0}
    last: dict[int, int] = {}
    for pairs, emptied in frames:
        if emptied:
            for name in ("objects", "misses", "false_positives"):
                counts[name] += 1
            continue
        matches = _matches(pairs, last)
        for g, p in matches:
            truth, found = int(pairs.truth[g]), int(pairs.found[p])
            counts["switches"] += last.get(truth, found) != found
            counts["distance"] += float(pairs.value[g, p])
            last[truth] = found
        counts["objects"] += len(pairs.truth)
        counts["detections"] += len(matches)
        counts["misses"] += len(pairs.truth) - len(matches)
        counts["false_positives"] += len(pairs.found) - len(matches)
    return counts


def _matches(pairs: Pairs, last: dict[int, int]) -> list[tuple[int, int]]:
    """Rows and columns: the last pairs that still hold, then most pairs of least distance."""
    allowed = pairs.value <= NEAR
    kept = []
    for g, truth in enumerate(pairs.truth):
        for p in np.flatnonzero((pairs.found == last.get(int(truth))) & allowed[g]):
            kept.append((g, int(p)))
            allowed[g], allowed[:, p] = False, False
    cost = np.where(allowed, pairs.value, _FAR)
    rest = zip(*linear_sum_assignment(cost), strict=True)
    return kept + [(int(g), int(p)) for g, p in rest if allowed[g, p]]


def joint_scores(counts: dict[str, float]) -> dict[str, float]:
    """MOTA, MOTP, precision and recall of summed counts, percent; nan where there is none."""
    wrong = counts["misses"] + counts["switches"] + counts["false_positives"]
    right, objects = counts["detections"], counts["objects"]
    return {
        "mota": 100 * (1 - _share(wrong, objects)),
        "motp": 100 * (1 - _share(counts["distance"], right)),
        "precision": 100 * _share(right, right + counts["false_positives"]),
        "recall": 100 * _share(right, objects),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def people_counts(frames: Iterable[Pairs], least: float) -> dict[str, float]:
    """CLEAR's counts of people in a video as TrackEval has them.

    Args:
        frames: similarities.
        least: a pair's similarity.
    """
    counts = dict.fromkeys(("TP", "FN", "FP", "IDSW", "similarity"), 0.0)
    last: dict[int, int] = {}  # found id of each object, of its last match
    before: dict[int, int] = {}  # that of the frame before, of those found there
    seen: dict[int, list[int]] = {}  # object: frames, those in which it is found, stretches
    for pairs in frames:
        for truth in pairs.truth.tolist():
            seen.setdefault(truth, [0, 0, 0])[0] += 1
        if not (len(pairs.truth) and len(pairs.found)):
            counts["FP"] += len(pairs.found)
            counts["FN"] += len(pairs.truth)
            continue  # as TrackEval: `before` survives
        now = _people_matches(pairs, before, least)
        for g, p in now:
            truth, found = int(pairs.truth[g]), int(pairs.found[p])
            counts["IDSW"] += last.get(truth, found) != found
            counts["similarity"] += float(pairs.value[g, p])
            seen[truth][1] += 1
            seen[truth][2] += truth not in before
            last[truth] = found
        before = {int(pairs.truth[g]): int(pairs.found[p]) for g, p in now}
        counts["TP"] += len(now)
        counts["FN"] += len(pairs.truth) - len(now)
        counts["FP"] += len(pairs.found) - len(now)
    return counts | _tracked(seen)


def _people_matches(pairs: Pairs, before: dict[int, int], least: float) -> list[tuple[int, int]]:
    """Rows and columns of most similarity, the pairs of the frame before first."""
    allowed = pairs.value >= least - np.finfo(float).eps
    known = np.array([before.get(int(truth), -1) for truth in pairs.truth])
    gain = np.where(allowed, 1000.0 * (known[:, None] == pairs.found) + pairs.value, 0.0)
    rows, columns = linear_sum_assignment(-gain)
    return [(int(g), int(p)) for g, p in zip(rows, columns, strict=True) if allowed[g, p]]


def _tracked(seen: dict[int, list[int]]) -> dict[str, float]:
    """Objects mostly and partly tracked and mostly lost; interruptions."""
    shares = np.array([found / frames for frames, found, _ in seen.values()])
    mostly, some = int((shares > MOSTLY).sum()), int((shares >= PARTLY).sum())
    return {
        "MT": mostly,
        "PT": some - mostly,
        "ML": len(shares) - some,
        "Frag": sum(max(stretches - 1, 0) for *_, stretches in seen.values()),
    }


def people_scores(counts: dict[str, float]) -> dict[str, float]:
    """MOTA and its companions of summed counts."""
    objects = max(1.0, counts["TP"] + counts["FN"])
    good = counts["TP"] - counts["FP"]
    return {
        "MOTA": (good - counts["IDSW"]) / objects,
        "MOTP": counts["similarity"] / max(1.0, counts["TP"]),
        "MODA": good / objects,
        "sMOTA": (counts["similarity"] - counts["FP"] - counts["IDSW"]) / objects,
        "CLR_Re": counts["TP"] / objects,
        "CLR_Pr": counts["TP"] / max(1.0, counts["TP"] + counts["FP"]),
    }
