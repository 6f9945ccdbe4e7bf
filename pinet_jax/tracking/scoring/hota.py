"""HOTA (Luiten et al., 2020): of people as TrackEval has it, of joints as PoseTrack21 has it.

Scores are arrays over the thresholds ALPHAS; a table has their means.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from pinet_jax.tracking.scoring.pairs import Pairs

ALPHAS = np.arange(0.05, 0.99, 0.05)
JOINT_RANGE = 0.5001  # head sizes at which the similarity of joints is 0
SUMS = ("TP", "FN", "FP")
AVERAGES = ("AssA", "AssRe", "AssPr", "FragA", "LocA")  # weighted by TP over several videos
_EPS = np.finfo(float).eps

ByAlpha = dict[str, Float[np.ndarray, " a"]]
Lost = tuple[bool, bool]  # whether the truth, the found have nobody in a frame


def joint_similarity(pairs: Pairs) -> Pairs:
    """Distances of a joint as PoseTrack21's similarities."""
    return pairs._replace(
        value=np.maximum(0.0, 1 - np.nan_to_num(pairs.value, nan=1e9) / JOINT_RANGE)
    )


def hota_counts(frames: Sequence[Pairs], aligned: bool, lost: Sequence[Lost] = ()) -> ByAlpha:
    """TP, FN and FP of a video, and the scores that are averages over its matches.

    Args:
        frames: similarities.
        aligned: pairs that go together through the video are preferred (HOTA proper); else
            similarity alone decides (PoseTrack21).
        lost: frames where one side has nobody, if for each of them all the video's objects on
            the other side shall count as wrong (the fault of PoseTrack21's program).
    """
    truth_total, found_total = Counter(), Counter()
    for pairs in frames:
        truth_total.update(pairs.truth.tolist())
        found_total.update(pairs.found.tolist())
    weights = _alignment(frames, truth_total, found_total) if aligned else None
    matches = [_matched(pairs, weights) for pairs in frames]
    counts = {name: np.zeros(len(ALPHAS)) for name in (*SUMS, *AVERAGES)}
    for a, alpha in enumerate(ALPHAS):
        _count_at(alpha, a, matches, (truth_total, found_total), counts)
    counts["LocA"] = _mean(counts["LocA"], counts["TP"])
    counts["FN"] += truth_total.total() - counts["TP"]
    counts["FP"] += found_total.total() - counts["TP"]
    for pairs, (no_truth, no_found) in zip(frames, lost, strict=False):
        if no_truth:
            counts["FP"] += found_total.total() - len(pairs.found)
        elif no_found:
            counts["FN"] += truth_total.total() - len(pairs.truth)
    return counts


def _alignment(frames: Iterable[Pairs], truth: Counter, found: Counter) -> dict:
    """How much of their time each pair of ids could be together (Jaccard of soft matches)."""
    together = defaultdict(float)
    for pairs in frames:
        value = pairs.value
        union = value.sum(0) + value.sum(1)[:, None] - value
        share = np.where(union > _EPS, value / np.maximum(union, _EPS), 0.0)
        for g, p in np.argwhere(share > 0):
            together[int(pairs.truth[g]), int(pairs.found[p])] += share[g, p]
    return {ids: time / (truth[ids[0]] + found[ids[1]] - time) for ids, time in together.items()}


def _matched(pairs: Pairs, weights: dict | None) -> list[tuple[int, int, float]]:
    """(truth id, found id, similarity) of a frame's assignment."""
    gain = pairs.value
    if weights is not None:
        ids = [[(g, p) for p in pairs.found.tolist()] for g in pairs.truth.tolist()]
        weight = np.array([[weights.get(pair, 0.0) for pair in row] for row in ids])
        gain = gain * weight.reshape(gain.shape)
    rows, columns = linear_sum_assignment(-gain)
    ids = zip(pairs.truth[rows].tolist(), pairs.found[columns].tolist(), strict=True)
    return [(g, p, float(v)) for (g, p), v in zip(ids, pairs.value[rows, columns], strict=True)]


def _count_at(
    alpha: float, a: int, matches: Iterable, totals: tuple[Counter, Counter], counts: ByAlpha
) -> None:
    """Fills in threshold number `a`."""
    together: Counter = Counter()  # frames of each pair
    runs: list[tuple[tuple[int, int], int]] = []  # stretches in which a truth keeps its id
    current: dict[int, list[int]] = {}  # truth id: found id, frames of the run
    for frame in matches:
        for g, p, value in frame:
            if value < alpha - _EPS:
                continue
            counts["TP"][a] += 1
            counts["LocA"][a] += value  # summed here, a mean in the end
            together[g, p] += 1
            if g in current and current[g][0] != p:
                runs.append(((g, current[g][0]), current[g][1]))
                del current[g]
            current.setdefault(g, [p, 0])[1] += 1
    runs += [((g, p), frames) for g, (p, frames) in current.items()]
    truth, found = totals

    def union(ids: tuple[int, int]) -> float:
        return max(1, truth[ids[0]] + found[ids[1]] - together[ids])

    scores = {
        "AssA": sum(n * n / union(ids) for ids, n in together.items()),
        "AssRe": sum(n * n / truth[ids[0]] for ids, n in together.items()),
        "AssPr": sum(n * n / found[ids[1]] for ids, n in together.items()),
        "FragA": sum(n * n / union(ids) for ids, n in runs),
    }
    for name, value in scores.items():
        counts[name][a] = value / max(1.0, counts["TP"][a])


def _mean(
    similarity: Float[np.ndarray, " a"], matches: Float[np.ndarray, " a"]
) -> Float[np.ndarray, " a"]:
    """Mean similarity of the matches; 1 without any, as TrackEval has it."""
    return np.maximum(1e-10, similarity) / np.maximum(1e-10, matches)


def added(parts: Sequence[ByAlpha]) -> ByAlpha:
    """The counts of several videos together: sums, and averages weighted by TP."""
    total = {name: sum(part[name] for part in parts) for name in SUMS}
    weighted = {name: sum(part[name] * part["TP"] for part in parts) for name in AVERAGES}
    averages = {name: value / np.maximum(1.0, total["TP"]) for name, value in weighted.items()}
    return total | averages | {"LocA": _mean(weighted["LocA"], total["TP"])}


def over_joints(parts: Sequence[ByAlpha]) -> ByAlpha:
    """The counts of a video's joints together: sums, and the averages' mean."""
    total = {name: sum(part[name] for part in parts) for name in SUMS}
    return total | {name: np.mean([part[name] for part in parts], 0) for name in AVERAGES}


def hota_scores(counts: ByAlpha) -> ByAlpha:
    """HOTA and its companions at every threshold."""
    right, missed, wrong = counts["TP"], counts["FN"], counts["FP"]
    detection = right / np.maximum(1.0, right + missed + wrong)
    recall = right / np.maximum(1.0, right + missed)
    association = counts["AssA"]
    unbroken = np.sqrt(association * counts["FragA"])
    return {
        "HOTA": np.sqrt(detection * association),
        "DetA": detection,
        **{name: counts[name] for name in AVERAGES},
        "DetRe": recall,
        "DetPr": right / np.maximum(1.0, right + wrong),
        "RHOTA": np.sqrt(recall * association),
        "FA-HOTA": np.sqrt(detection * unbroken),
        "FA-RHOTA": np.sqrt(recall * unbroken),
    }
