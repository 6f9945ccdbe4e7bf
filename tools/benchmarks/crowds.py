"""Random work: crowds of people, images and weights."""

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Float

from pinet_jax.methods.variables import shapes

LABELS = (1, 2)  # v, hidden or seen: every keypoint is work


def people(
    rng: np.random.Generator, images: int, persons: int, keypoints: int, size: int
) -> tuple[Float[np.ndarray, "b p k 3"], Float[np.ndarray, "b p"]]:
    """Keypoints (x, y in pixels of a square image of side `size`, v) and areas of crowds."""
    middle = rng.uniform(0, size, (images, persons, 1, 2))
    xy = middle + rng.normal(0, size / 16, (images, persons, keypoints, 2))
    labels = rng.choice(LABELS, (images, persons, keypoints, 1))
    area = rng.uniform(size**2 / 64, size**2 / 16, (images, persons))
    return np.concatenate([xy, labels], -1).astype(np.float32), area.astype(np.float32)


def batch(
    rng: np.random.Generator, images: int, persons: int, keypoints: int, size: int, stride: int
) -> dict[str, np.ndarray]:
    """A training batch's device part."""
    points, area = people(rng, images, persons, keypoints, size)
    low, high = points[..., :2].min(2), points[..., :2].max(2)
    corners = [np.stack([x[..., 0], y[..., 1]], -1) for y in (low, high) for x in (low, high)]
    side = size // stride
    return {
        "image": rng.integers(0, 256, (images, size, size, 3), np.uint8),
        "keypoints": points,
        "area": area,
        "annotation_area": area,
        "corners": np.stack(corners, 2),
        "region_mask": np.ones((images, side, side), bool),
    }


def variables(model: nn.Module, seed: int = 0) -> dict:
    """Weights that keep all activations alive, without compiling the initialisation."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        if path[-1].key in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        fan_in = max(1, leaf.size // leaf.shape[-1])
        return rng.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes(model))
