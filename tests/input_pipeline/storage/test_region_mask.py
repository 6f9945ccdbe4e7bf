import numpy as np
import pytest
from pycocotools import mask as coco_mask

from input_pipeline.storage.region_mask import ignore_mask

HEIGHT, WIDTH = 12, 20
BOX = [3.0, 2.0, 5.0, 4.0]


def rectangle() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:6, 3:8] = 255
    return mask


ONES = np.asfortranarray(rectangle() // 255)


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed code: alternating run lengths, column by column, zeros first."""
    flat = mask.T.reshape(-1) > 0
    edges = np.flatnonzero(np.diff(flat.astype(int), prepend=0)).tolist()
    return np.diff([0, *edges, flat.size]).tolist()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[3.0, 2.0, 8.0, 2.0, 8.0, 6.0, 3.0, 6.0]],
        {"size": [HEIGHT, WIDTH], "counts": run_lengths(rectangle())},
        coco_mask.encode(ONES),
        [],
        [[3.0, 2.0, 5.0, 4.0]],
        [[3.0, 2.0, 8.0, 2.0, float("nan"), 6.0]],
        {"size": [99, 98], "counts": [99 * 98]},
        None,
        {"size": [float(HEIGHT), float(WIDTH)], "counts": run_lengths(rectangle())},
        {"size": [HEIGHT, WIDTH], "counts": coco_mask.encode(ONES)["counts"].decode()},
        [[]],
        [3.0, 2.0, 8.0, 2.0, 8.0, 6.0],
        [[3.0, 2.0, 8.0, 2.0, None, 6.0]],
        {"size": [HEIGHT, WIDTH], "counts": [5, 3]},
        {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH + 5, -5]},
        {"size": [HEIGHT, WIDTH], "counts": []},
        {"size": [HEIGHT, WIDTH], "counts": ""},
        {"size": [HEIGHT, WIDTH], "counts": "!!zz~~"},
        {"size": [HEIGHT, WIDTH], "counts": 7},
        {"size": [HEIGHT, WIDTH]},
        {"outer": [[3, 2]], "inner": []},
        "rectangle",
    ],
    ids=[
        "polygon",
        "runs",
        "compressed",
        "empty",
        "two corners",
        "not finite",
        "another size",
        "none",
        "runs with a size of floats",
        "compressed as text",
        "an empty polygon",
        "flat",
        "null in a polygon",
        "runs too short",
        "runs below zero",
        "no runs",
        "no code",
        "a damaged code",
        "a number for a code",
        "size alone",
        "something else",
        "text",
    ],
)
def test_every_kind_of_region_gives_the_rectangle(segmentation):
    annotation = {"bbox": BOX, "segmentation": segmentation}
    np.testing.assert_array_equal(ignore_mask([annotation], HEIGHT, WIDTH), rectangle())


def test_a_missing_segmentation_is_the_box():
    np.testing.assert_array_equal(ignore_mask([{"bbox": BOX}], HEIGHT, WIDTH), rectangle())


def test_a_polygon_beyond_the_image_is_clipped():
    polygon = [[-9.0, -9.0, 8.0, -9.0, 8.0, 6.0, -9.0, 6.0]]
    mask = ignore_mask([{"bbox": BOX, "segmentation": polygon}], HEIGHT, WIDTH)
    assert mask[:6, :8].all() and not mask[6:].any() and not mask[:, 8:].any()


def test_regions_are_joined_and_clipped():
    boxes = [{"bbox": BOX}, {"bbox": [15.0, -3.0, 50.0, 5.0]}]
    expected = rectangle()
    expected[:2, 15:] = 255
    np.testing.assert_array_equal(ignore_mask(boxes, HEIGHT, WIDTH), expected)


def test_a_fractional_box_covers_every_pixel_it_touches():
    mask = ignore_mask([{"bbox": [3.5, 2.5, 4.0, 3.0]}], HEIGHT, WIDTH)
    np.testing.assert_array_equal(mask, rectangle())


def test_no_region_masks_nothing():
    assert not ignore_mask([], HEIGHT, WIDTH).any()
