"""Annotated regions of an image as pixels."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from pycocotools import mask as coco_mask


def ignore_mask(
    annotations: Iterable[Mapping[str, Any]], height: int, width: int
) -> UInt8[np.ndarray, "height width"]:
    """255 inside any of the annotations' regions, else 0.

    Args:
        annotations: COCO annotations; `segmentation` is polygons, or a run-length code,
            compressed or not. Where it is missing, empty, no area, or made for an image
            of another size, the region is `bbox` (x, y, width, height in pixels).
        height: of the image, pixels.
        width: of the image, pixels.
    """
    mask = np.zeros((height, width), np.uint8)
    for annotation in annotations:
        mask[_region(annotation, height, width)] = 255
    return mask


def _region(annotation: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list):
        segmentation = [polygon for polygon in segmentation if _is_polygon(polygon)]
    if not segmentation:
        return _box(annotation["bbox"], height, width)
    if isinstance(segmentation, list):
        code = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif list(segmentation["size"]) != [height, width]:
        return _box(annotation["bbox"], height, width)
    elif isinstance(segmentation["counts"], list):
        code = coco_mask.frPyObjects(segmentation, height, width)
    else:
        code = segmentation
    return coco_mask.decode(code).astype(bool)


def _is_polygon(values: list[float]) -> bool:
    """Three corners at least, all finite: the COCO tools take four numbers for a box."""
    return len(values) >= 6 and len(values) % 2 == 0 and bool(np.isfinite(values).all())


def _box(bbox: Iterable[float], height: int, width: int) -> np.ndarray:
    """True in every pixel that the box touches."""
    x, y, w, h = bbox
    rows, columns = np.arange(height), np.arange(width)
    in_rows = (rows > y - 1) & (rows < y + h)
    in_columns = (columns > x - 1) & (columns < x + w)
    return in_rows[:, None] & in_columns[None, :]
