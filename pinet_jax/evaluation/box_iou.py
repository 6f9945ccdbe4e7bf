"""How crowded annotated scenes are."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float


def mean_pair_iou(boxes: Iterable[Float[np.ndarray, "_ 4"]]) -> float:
    """Mean over persons of a box's IoU with the neighbour it overlaps most.

    Args:
        boxes: x, y, width, height of the persons of each scene. A person alone in
            its scene has no neighbour and does not count.

    Returns:
        The mean; 0 if there is no pair at all.
    """
    nearest = [nearest_iou(np.asarray(scene)) for scene in boxes if len(scene) > 1]
    return float(np.mean(np.concatenate(nearest))) if nearest else 0.0


def nearest_iou(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Each person's IoU with the neighbour it overlaps most; 0 for a person alone.

    Args:
        boxes: x, y, width, height of the persons of one scene.
    """
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    overlap = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    both = np.prod(np.maximum(overlap, 0), axis=-1)
    area = np.prod(boxes[:, 2:], axis=-1)
    iou = both / np.maximum(area[:, None] + area - both, 1e-9)
    np.fill_diagonal(iou, 0)
    return iou.max(axis=1)
