"""Annotated regions of an image as pixels."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from pycocotools import mask as coco_mask

from pinet_jax.evaluation.coco_annotations import are_finite


def ignore_mask(
    annotations: Iterable[Mapping[str, Any]], height: int, width: int
) -> UInt8[np.ndarray, "height width"]:
    """255 inside any of the annotations' regions, else 0.

    Args:
        annotations: COCO annotations; `segmentation` is polygons, or a run-length code,
            compressed or not. Where it is missing, empty, none of these, no area, or made for
            an image of another size, the region is `bbox` (x, y, width, height in pixels).
        height: of the image, pixels.
        width: of the image, pixels.
    """
    mask = np.zeros((height, width), np.uint8)
    for annotation in annotations:
        mask[_region(annotation, height, width)] = 255
    return mask


def _region(annotation: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    code = _run_length_code(annotation.get("segmentation"), height, width)
    if code is not None:
        with contextlib.suppress(ValueError, TypeError):  # a damaged code
            return coco_mask.decode(code).astype(bool)
    return _box(annotation["bbox"], height, width)


def _run_length_code(segmentation: Any, height: int, width: int) -> Mapping[str, Any] | None:
    """As the COCO tools decode it; None where there is no such region of this image."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if _is_polygon(polygon)]
        return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)) if polygons else None
    if not isinstance(segmentation, Mapping) or segmentation.get("size") != [height, width]:
        return None
    counts = segmentation.get("counts")
    if not isinstance(counts, list):
        return segmentation if counts else None
    # Decoding fewer pixels than there are would leave the others to chance.
    covers = are_finite(counts) and min(counts, default=0) >= 0 and sum(counts) == height * width
    return coco_mask.frPyObjects(segmentation, height, width) if covers else None


def _is_polygon(values: Any) -> bool:
    """Three corners at least, all finite: the COCO tools take four numbers for a box."""
    return (
        isinstance(values, list)
        and len(values) >= 6
        and len(values) % 2 == 0
        and are_finite(values)
    )


def _box(bbox: Iterable[float], height: int, width: int) -> np.ndarray:
    """True in every pixel that the box touches."""
    x, y, w, h = bbox
    rows, columns = np.arange(height), np.arange(width)
    in_rows = (rows > y - 1) & (rows < y + h)
    in_columns = (columns > x - 1) & (columns < x + w)
    return in_rows[:, None] & in_columns[None, :]
