"""Targets as they are rendered without arrays: Python loops over the pixels near each point."""

import math

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.skeletons import Parts


def render(
    keypoints: Float[np.ndarray, "p k 3"],
    area: Float[np.ndarray, " p"],
    size: tuple[int, int],
    parts: Parts,
    config: ConfigDict,
) -> dict[str, np.ndarray]:
    """Heatmaps, offsets and their weights of one image, in the released convention.

    Args:
        keypoints: x, y in input pixels and v.
        area: of each person, input pixels squared.
        size: height and width of the maps.
        parts: keypoint indices of each part.
        config: `config.targets`.

    Returns:
        Arrays [h, w, ...] by the names they have in `pinet_jax.methods.pinet.targets.Targets`.
    """
    height, width = size
    count = keypoints.shape[1]
    maps = {
        "keypoint_heatmaps": np.zeros((height, width, count), np.float32),
        "part_heatmaps": np.zeros((height, width, len(parts)), np.float32),
        "offsets": np.zeros((height, width, len(parts), count, 2), np.float32),
        "offset_weights": np.zeros((height, width, len(parts), count), np.float32),
    }
    keypoints = keypoints / [HEATMAP_STRIDE, HEATMAP_STRIDE, 1]
    for person in np.argsort(-area, kind="stable"):  # smaller ones own what they share
        points = [_inside(point, height, width) for point in keypoints[person]]
        for channel, point in enumerate(points):
            if point is not None:
                _draw(maps["keypoint_heatmaps"][..., channel], *point, config.sigma)
        if area[person] < config.min_area:
            continue
        for number, part in enumerate(parts):
            labelled = [keypoints[person, k] for k in part if keypoints[person, k, 2] > 0]
            center = _inside(np.mean(labelled, axis=0), height, width) if labelled else None
            if center is not None:
                _draw(maps["part_heatmaps"][..., number], *center, config.sigma)
                _point_at(maps, number, center, points, area[person] ** -0.5, config.square_radius)
    return maps


def _inside(point: np.ndarray, height: int, width: int) -> tuple[float, float] | None:
    x, y, v = map(float, point)
    return (x, y) if v > 0 and 0 <= x < width and 0 <= y < height else None


def _draw(heatmap: np.ndarray, x: float, y: float, sigma: float) -> None:
    """The maximum of the map and a Gaussian, in its window."""
    height, width = heatmap.shape
    reach = 3 * sigma + 1
    for v in range(max(0, math.floor(y - reach)), min(height - 1, math.ceil(y + reach)) + 1):
        for u in range(max(0, math.floor(x - reach)), min(width - 1, math.ceil(x + reach)) + 1):
            value = math.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))
            heatmap[v, u] = max(heatmap[v, u], value)


def _point_at(
    maps: dict[str, np.ndarray],
    part: int,
    center: tuple[float, float],
    points: list[tuple[float, float] | None],
    weight: float,
    radius: int,
) -> None:
    """Offsets from the pixels around a part centre to its person's keypoints."""
    height, width = maps["offsets"].shape[:2]
    x, y = map(int, center)
    for v in range(max(0, y - radius), min(height, y + radius)):
        for u in range(max(0, x - radius), min(width, x + radius)):
            for keypoint, point in enumerate(points):
                there = point is not None
                offset = (u - point[0], v - point[1]) if there else (0, 0)
                maps["offsets"][v, u, part, keypoint] = offset
                maps["offset_weights"][v, u, part, keypoint] = weight if there else 0
