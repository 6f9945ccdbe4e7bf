"""Pictures: people on an image, how they were found, predictions beside the truth, curves.

A person has one colour, its left limbs a light and its right limbs a dark shade of
it. Small images are enlarged first, so that lines and captions stay legible.
"""

from pinet_jax.visualize.canvas import save_png
from pinet_jax.visualize.evidence import heatmaps_page, parts_page
from pinet_jax.visualize.pages import LEGEND, Example, prediction_grid
from pinet_jax.visualize.people import (
    MIN_KEYPOINT_SCORE,
    MIN_LONG_SIDE,
    MIN_SCORE,
    draw_people,
    draw_truth,
    person_color,
)
from pinet_jax.visualize.plots import adjacency_plot, loss_curves
from pinet_jax.visualize.tracks import Trails, draw_tracks, longer_trails

__all__ = [
    "LEGEND",
    "MIN_KEYPOINT_SCORE",
    "MIN_LONG_SIDE",
    "MIN_SCORE",
    "Example",
    "Trails",
    "adjacency_plot",
    "draw_people",
    "draw_tracks",
    "draw_truth",
    "heatmaps_page",
    "longer_trails",
    "loss_curves",
    "parts_page",
    "person_color",
    "prediction_grid",
    "save_png",
]
