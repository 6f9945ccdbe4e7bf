"""Heatmaps as they are rendered without arrays: a Python loop over the pixels near each point."""

import math

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict


def heatmaps(
    points: Float[np.ndarray, "p n 3"], height: int, width: int, config: ConfigDict
) -> Float[np.ndarray, "h w n"]:
    """Released-convention heatmaps (PINet eq. S1) of one image.

    Args:
        points: x, y in heatmap pixels and v.
        height: of the map, pixels.
        width: of the map, pixels.
        config: `config.targets`.
    """
    maps = np.zeros((height, width, points.shape[1]), np.float32)
    for person in points:
        for channel, (x, y, v) in enumerate(person):
            if v > 0 and 0 <= x < width and 0 <= y < height:
                _draw(maps[..., channel], x, y, config.sigma)
    return maps


def _draw(heatmap: np.ndarray, x: float, y: float, sigma: float) -> None:
    height, width = heatmap.shape
    reach = 3 * sigma + 1
    for v in range(max(0, math.floor(y - reach)), min(height - 1, math.ceil(y + reach)) + 1):
        for u in range(max(0, math.floor(x - reach)), min(width - 1, math.ceil(x + reach)) + 1):
            value = math.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))
            heatmap[v, u] = max(heatmap[v, u], value)
