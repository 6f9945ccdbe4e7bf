"""AP of joints by PCKh, as PoseTrack counts it (TRACKING, section 5)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from pinet_jax.tracking.scoring.pairs import Both, joint_distances

NEAR = 0.5  # head sizes: a joint no farther off is found


def average_precision(frames: Sequence[Both]) -> dict[str, Float[np.ndarray, " k"]]:
    """AP, precision and recall of every joint over the frames of all videos, percent.

    nan for a joint that is never labelled.
    """
    scores, right, labelled = zip(*(_of_frame(frame) for frame in frames), strict=True)
    scores, right = np.concatenate(scores), np.concatenate(right)
    total = np.sum(labelled, 0)
    columns = [_curve(scores[:, k], right[:, k], int(total[k])) for k in range(len(total))]
    return {
        name: 100 * np.array(values)
        for name, values in zip(
            ("ap", "precision", "recall"), zip(*columns, strict=True), strict=True
        )
    }


def _of_frame(
    frame: Both,
) -> tuple[Float[np.ndarray, "p k"], Bool[np.ndarray, "p k"], Int[np.ndarray, " k"]]:
    """Scores of the found joints (nan: not found), whether they are right, labelled joints."""
    truth, found = frame
    near = joint_distances(frame, slice(None)) <= NEAR
    right = np.zeros_like(found.there)
    for g, p in _assigned(near.sum(-1) / np.maximum(truth.there.sum(-1), 1)[:, None]):
        right[p] = near[g, p]
    return np.where(found.there, found.scores, np.nan), right, truth.there.sum(0)


def _assigned(pck: Float[np.ndarray, "g p"]) -> list[tuple[int, int]]:
    """Every found person keeps its best of the truth, every one of the truth its best of those."""
    if not pck.size:
        return []
    best = np.zeros_like(pck)
    columns = np.arange(pck.shape[1])
    rows = pck.argmax(0)
    best[rows, columns] = pck[rows, columns]
    return [(g, int(best[g].argmax())) for g in np.flatnonzero(best.max(1) > 0).tolist()]


def _curve(
    scores: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], total: int
) -> tuple[float, float, float]:
    """AP, precision and recall of one joint; scores of nan are no detections."""
    there = ~np.isnan(scores)
    order = np.argsort(-scores[there], kind="stable")
    hits = right[there][order].cumsum()
    if not total:
        return np.nan, np.nan, np.nan
    if not len(hits):
        return 0.0, 0.0, 0.0
    recall = np.concatenate([[0.0], hits / total, [1.0]])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(hits) + 1), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    area = (np.diff(recall) * envelope[1:]).sum()
    return float(area), float(hits[-1] / len(hits)), float(hits[-1] / total)
