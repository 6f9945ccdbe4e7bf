"""The report's diagrams, each a PNG."""

import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from pinet_jax.evaluation.report.breakdown import FOUND, KEYPOINT_KINDS, NEAR
from pinet_jax.evaluation.scoring import PrecisionCurves, percent
from pinet_jax.visualize import figures

if TYPE_CHECKING:  # takes half a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 144  # half as much again as a page has, so that they are sharp on fine screens
NUM_SCORE_BINS = 10
OKS_BIN = 0.05
BLUE, GREY = "#1f5f99", "#c9d3dc"
KIND_COLORS = dict(
    zip(KEYPOINT_KINDS, ("#4477aa", "#a6c8e4", "#ccbb44", "#ee6677", "#777777"), strict=True)
)


@dataclasses.dataclass(frozen=True)
class ScoreBin:
    """Detections whose scores lie in one interval.

    Attributes:
        low: lower end, inside.
        high: upper end, outside; inside for the last interval.
        detections: how many.
        mean_score: of them; NaN without any.
        right: the share matched with a person at OKS 0.5; NaN without any.
    """

    low: float
    high: float
    detections: int
    mean_score: float
    right: float


def calibrate(
    scores: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> tuple[ScoreBin, ...]:
    """Bins of equal width from 0 to 1, or from the lowest to the highest score if that is wider."""
    low, high = min(scores.min(initial=0), 0.0), max(scores.max(initial=1), 1.0)
    edges = np.linspace(low, high, NUM_SCORE_BINS + 1)
    number = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, NUM_SCORE_BINS - 1)
    bins = []
    for index in range(NUM_SCORE_BINS):
        inside = number == index
        bins.append(
            ScoreBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                detections=int(inside.sum()),
                mean_score=float(scores[inside].mean()) if inside.any() else np.nan,
                right=float(right[inside].mean()) if inside.any() else np.nan,
            )
        )
    return tuple(bins)


def precision_recall(curves: PrecisionCurves) -> bytes:
    """Precision against recall at every OKS threshold."""
    from matplotlib import colormaps

    figure = figures.figure(6.4, 4.4, DPI)
    axes = _square(figure.add_subplot(), "recall", "precision")
    shades = colormaps["viridis"](np.linspace(0, 0.9, len(curves.thresholds)))
    for threshold, precision, shade in zip(
        curves.thresholds, curves.precision, shades, strict=True
    ):
        known = precision >= 0
        ap = percent(precision[known].mean()) if known.any() else "-"
        label = f"{threshold:.2f}   AP {ap}"
        axes.plot(curves.recall[known], precision[known], color=shade, label=label, linewidth=1.6)
    axes.legend(title="OKS threshold", loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return _png(figure)


def oks_curve(curves: PrecisionCurves, oks: Float[np.ndarray, " m"]) -> bytes:
    """AP against the OKS threshold, and how many matched detections have which OKS."""
    figure = figures.figure(9.6, 3.4, DPI)
    left, right = figure.subplots(1, 2)
    # -1 marks what has no ground truth.
    ap = 100 * np.where(curves.precision < 0, np.nan, curves.precision).mean(axis=1)
    left.plot(curves.thresholds, ap, color=BLUE, marker="o", markersize=4)
    left.set(xlabel="OKS threshold", ylabel="AP", xlim=(0.48, 0.97), ylim=(0, 103))
    edges = np.arange(NEAR, 1 + OKS_BIN / 2, OKS_BIN)
    numbers, _, bars = right.hist(np.clip(oks, NEAR, 1), edges, color=BLUE, edgecolor="white")
    for bar, low in zip(bars, edges[:-1], strict=True):
        bar.set_facecolor(BLUE if low > FOUND - OKS_BIN / 2 else GREY)
    most = max(1, 1.05 * numbers.max())
    right.set(xlabel="OKS with the person", ylabel="detections", xlim=(NEAR, 1), ylim=(0, most))
    right.yaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        _tidy(axes)
    return _png(figure)


def calibration(bins: Sequence[ScoreBin]) -> bytes:
    """The share of right detections against their mean score, above the numbers of detections."""
    figure = figures.figure(5.6, 4.8, DPI)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    used = [part for part in bins if part.detections]
    above.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="score is share")
    means, shares = ([getattr(b, name) for b in used] for name in ("mean_score", "right"))
    above.plot(means, shares, color=BLUE, marker="o", markersize=5, label="detections")
    above.set(ylabel="share right (OKS 0.5)", ylim=(-0.02, 1.03))
    above.legend(frameon=False)
    middles, widths = [(b.low + b.high) / 2 for b in bins], [0.92 * (b.high - b.low) for b in bins]
    below.bar(middles, [b.detections for b in bins], widths, color=BLUE)
    below.set(xlabel="score", ylabel="detections", xlim=(bins[0].low - 0.01, bins[-1].high + 0.01))
    below.yaxis.get_major_locator().set_params(integer=True)
    for axes in (above, below):
        _tidy(axes)
    return _png(figure)


def keypoint_errors(keypoints: Int[np.ndarray, "k 5"], names: Sequence[str]) -> bytes:
    """The share of each kind of keypoint, by keypoint."""
    figure = figures.figure(8.4, 1.2 + 0.27 * len(names), DPI)
    axes = figure.add_subplot()
    shares = 100 * keypoints / np.maximum(keypoints.sum(axis=1, keepdims=True), 1)
    start = np.zeros(len(names))
    for kind, share in zip(KEYPOINT_KINDS, shares.T, strict=True):
        axes.barh(range(len(names)), share, left=start, color=KIND_COLORS[kind], label=kind)
        start += share
    labels = [name.replace("_", " ") for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlabel="% of the labelled keypoints of matched persons", xlim=(0, 100))
    axes.invert_yaxis()
    axes.legend(
        ncols=len(KEYPOINT_KINDS), loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False
    )
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _square(axes: "Axes", x: str, y: str) -> "Axes":
    """Axes from 0 to 1, a little beyond so that lines on the edge show."""
    axes.set(xlabel=x, ylabel=y, xlim=(0, 1.01), ylim=(0, 1.02))
    return _tidy(axes)


def _tidy(axes: "Axes") -> "Axes":
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
