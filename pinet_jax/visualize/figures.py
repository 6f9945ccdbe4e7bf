"""Matplotlib figures without a window system."""

from typing import TYPE_CHECKING

import numpy as np

from pinet_jax.data import RgbImage

if TYPE_CHECKING:  # takes half a second to import
    from matplotlib.figure import Figure

DPI = 110


def figure(width: float, height: float, dpi: int = DPI) -> "Figure":
    """An empty figure of `width` x `height` inches, whose panels find their own room.

    It belongs to no window and to no global state of Matplotlib's.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(made)  # puts itself into the figure
    return made


def rendered(figure: "Figure") -> RgbImage:
    """The pixels of a figure made by `figure`."""
    figure.canvas.draw()
    return np.ascontiguousarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
