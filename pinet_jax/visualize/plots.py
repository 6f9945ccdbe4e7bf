"""Curves and matrices, drawn by Matplotlib."""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.skeletons import Skeleton
from pinet_jax.visualize import figures
from pinet_jax.visualize.canvas import save_png


def loss_curves(records: Sequence[Mapping[str, float]], png_path: str | os.PathLike) -> None:
    """Draws every loss term and the learning rate over the steps.

    Args:
        records: of a metrics.jsonl.
        png_path: the picture.

    Raises:
        UserError: there is no loss in them, or the PNG cannot be written.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    names = [name for name in names if name == "loss" or name.endswith("_loss")]
    if not names:
        raise UserError("The metrics hold no losses yet: train for some steps first.")
    if any("learning_rate" in record for record in records):
        names.append("learning_rate")
    save_png(_plot(records, names), png_path)


def adjacency_plot(
    adjacencies: Sequence[Float[np.ndarray, "k k"]],
    titles: Sequence[str],
    skeleton: Skeleton,
    png_path: str | os.PathLike,
) -> None:
    """Draws adjacencies of the refinement side by side, on one scale (PINet Fig. 2).

    Row i says how much keypoint i takes from every keypoint.

    Args:
        adjacencies: A of eq. 9, at least one, e.g. at several steps of a training.
        titles: one an adjacency.
        skeleton: of the keypoints.
        png_path: the picture.

    Raises:
        UserError: the PNG cannot be written.
    """
    side = 1.6 + 0.22 * skeleton.num_keypoints
    figure = figures.figure(side * len(adjacencies) + 1, side)
    panels = figure.subplots(1, len(adjacencies), sharey=True, squeeze=False)[0]
    largest = max(float(np.abs(adjacency).max()) for adjacency in adjacencies)
    names = [name.replace("_", " ") for name in skeleton.keypoints]
    for axes, adjacency, title in zip(panels, adjacencies, titles, strict=True):
        image = axes.imshow(adjacency, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
    figure.colorbar(image, ax=list(panels), shrink=0.8)
    save_png(figures.rendered(figure), png_path)


def _plot(records: Sequence[dict], names: Sequence[str]) -> RgbImage:
    """One panel a metric, on a logarithmic scale where it is positive."""
    columns = min(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = figures.figure(4.6 * columns, 3.1 * rows)
    for index, name in enumerate(names):
        points = [(r["step"], r[name]) for r in records if r.get(name) is not None]
        _plot_panel(figure.add_subplot(rows, columns, index + 1), name, np.array(points))
    return figures.rendered(figure)


def _plot_panel(axes, name: str, points: np.ndarray) -> None:
    axes.set_title(name.replace("_", " "), fontsize=10, loc="left")
    axes.grid(True, which="major", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)
    axes.set_xlabel("step", fontsize=8)
    if not len(points):
        return
    steps, values = points.T
    if name == "learning_rate":
        axes.plot(steps, values, color="#1f5f99", linewidth=1.6)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        axes.yaxis.offsetText.set_fontsize(8)
        return
    axes.plot(steps, values, color="#9ec5e8", linewidth=0.9, marker="." if len(steps) < 3 else "")
    axes.plot(steps, _smoothed(values, len(values) // 20), color="#1f5f99", linewidth=1.6)
    if (values > 0).all():
        axes.set_yscale("log")


def _smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over `window` values to either side; fewer, to both sides, near the ends."""
    index = np.arange(len(values))
    reach = np.minimum(np.minimum(index, index[::-1]), window)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)
