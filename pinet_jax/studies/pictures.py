"""A study's pictures."""

from collections.abc import Mapping

import numpy as np
from ml_collections import ConfigDict

from pinet_jax.studies import rows, verdicts
from pinet_jax.studies.scoring import RowScores
from pinet_jax.visualize import figures
from pinet_jax.visualize.canvas import RgbImage

Known = Mapping[str, RowScores]  # by the row's name

IN_FIG_5 = ("center", "dekr", "part-large", "full")  # the methods whose AP by crowding is drawn
PAPER, OURS = "#bbbbbb", "#4477aa"
LINES = ("#4477aa", "#ee6677", "#228833", "#ccbb44")


def bars(known: Known, config: ConfigDict) -> RgbImage:
    """AP of the rows with their intervals, beside the published ones."""
    shown = [row for row in rows.ROWS if row.name in known]
    figure = figures.figure(1.6 + 0.75 * len(shown), 4.2)
    axes = figure.subplots()
    places = np.arange(len(shown))
    ours = [known[row.name].metrics["AP"] for row in shown]
    spreads = [verdicts.spread(known[row.name], config) for row in shown]
    errors = [[s.value - s.low for s in spreads], [s.high - s.value for s in spreads]]
    published = [row.published[0] or 0 for row in shown]
    axes.bar(places - 0.2, published, 0.4, color=PAPER, label="paper, OCHuman test")
    axes.bar(places + 0.2, 100 * np.array(ours), 0.4, color=OURS, label="here")
    axes.errorbar(
        places + 0.2, 100 * np.array(ours), 100 * np.abs(errors), fmt="none", ecolor="#222222"
    )
    axes.set_xticks(places, [row.name for row in shown], rotation=40, ha="right", fontsize=8)
    axes.set_ylabel("AP")
    figure.legend(fontsize=8, loc="outside upper left", ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figures.rendered(figure)


def by_level(known: Known, config: ConfigDict) -> RgbImage:
    """AP of several methods by the box IoU of the scenes (the paper's Fig. 5)."""
    figure = figures.figure(5.4, 4.0)
    axes = figure.subplots()
    levels = config.study.levels
    for name, color in zip([n for n in IN_FIG_5 if n in known], LINES, strict=False):
        found = [verdicts.spread_of(known[name], known[name].by_level[lv], config) for lv in levels]
        values = 100 * np.array([[f.value, f.low, f.high] for f in found])
        axes.plot(levels, values[:, 0], "o-", color=color, label=rows.row(name).title)
        axes.fill_between(levels, values[:, 1], values[:, 2], color=color, alpha=0.18, lw=0)
    axes.set_xlabel("box IoU with the nearest person")
    axes.set_ylabel("AP")
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figures.rendered(figure)
