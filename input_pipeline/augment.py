"""Random crops of an image and its persons: NumPy and OpenCV, no state.

Coordinates are OpenCV's: pixel centres are whole numbers, and a matrix [2, 3] takes
image pixels to network-input pixels.
"""

import dataclasses
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from ml_collections import ConfigDict

from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.data import Persons
from pinet_jax.errors import UserError

TRANSLATION_UNIT = 200.0  # the crop side in units of config.augmentation.translation


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """One crop.

    Attributes:
        rotation: degrees.
        scale: side of the crop in short sides of the image.
        translation: of the crop's centre (x, y), in two-hundredths of its side.
        flip: whether left and right change places.
    """

    rotation: float
    scale: float
    translation: tuple[float, float]
    flip: bool


def check(config: ConfigDict) -> None:
    """UserError unless `config.augmentation` holds limits that crops can be drawn from."""
    scale = config.scale
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise UserError(
            f"config.augmentation.scale is {scale}: give two numbers above 0, the smallest "
            "crop side and the largest, in short sides of the image."
        )


def sample_parameters(rng: np.random.Generator, config: ConfigDict) -> Augmentation:
    """A random crop, uniform within the limits of `config.augmentation`."""
    return Augmentation(
        rotation=rng.uniform(-config.rotation, config.rotation),
        scale=rng.uniform(*config.scale),
        translation=tuple(rng.uniform(-config.translation, config.translation, size=2)),
        flip=bool(rng.random() < config.flip),
    )


def affine(
    parameters: Augmentation, height: int, width: int, input_size: int
) -> Float[np.ndarray, "2 3"]:
    """The matrix from image pixels to pixels of the square network input.

    The middle of the image, the pixel (int(w/2 + 0.5), int(h/2 + 0.5)) as in inference,
    lands on (S/2, S/2) when nothing is translated; a flip then takes x to S - 1 - x.

    Args:
        parameters: the crop.
        height: of the image, pixels.
        width: of the image, pixels.
        input_size: side S of the network input, pixels.
    """
    crop_side = parameters.scale * min(height, width)
    shift = np.asarray(parameters.translation) * crop_side / TRANSLATION_UNIT
    center = np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)]) + shift
    angle = np.deg2rad(parameters.rotation)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = turn * (input_size / crop_side)
    offset = input_size / 2 - linear @ center
    matrix = np.concatenate([linear, offset[:, None]], axis=1)
    if parameters.flip:
        matrix[0] *= -1
        matrix[0, 2] += input_size - 1
    return matrix


def apply_to_keypoints(
    keypoints: Float[np.ndarray, "n k 3"],
    matrix: Float[np.ndarray, "2 3"],
    flip_order: tuple[int, ...] | None,
) -> Float[np.ndarray, "n k 3"]:
    """Keypoints (x, y, v) in input pixels.

    v is kept even where a keypoint leaves the input: part centres count it
    (PINet, part centres). Unlabelled keypoints (v = 0) get x = y = 0.

    Args:
        keypoints: x, y in image pixels.
        matrix: image pixels -> input pixels.
        flip_order: the skeleton's mirror order if the matrix mirrors, else None.
    """
    visibility = keypoints[..., 2:]
    moved = keypoints[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    result = np.concatenate([np.where(visibility > 0, moved, 0), visibility], axis=-1)
    return (result if flip_order is None else result[:, flip_order]).astype(np.float32)


def apply_to_area(
    area: Float[np.ndarray, " n"], matrix: Float[np.ndarray, "2 3"]
) -> Float[np.ndarray, " n"]:
    """Areas in input pixels squared."""
    return (area * abs(np.linalg.det(matrix[:, :2]))).astype(np.float32)


def box_corners(boxes: Float[Any, "*n 4"]) -> Float[Any, "*n 4 2"]:
    """(x, y) of the top left, top right, bottom left and bottom right: NumPy or JAX arrays.

    Args:
        boxes: x, y, width, height.
    """
    unit = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    return boxes[..., None, :2] + boxes[..., None, 2:] * unit


def apply_to_corners(
    corners: Float[np.ndarray, "n 4 2"], matrix: Float[np.ndarray, "2 3"]
) -> Float[np.ndarray, "n 4 2"]:
    """Corners of boxes in input pixels, where the boxes may be turned."""
    return (corners @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def warp_image(
    image: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "2 3"], input_size: int
) -> UInt8[np.ndarray, "s s 3"]:
    """The network input, bilinear; black where the image does not reach."""
    return cv2.warpAffine(image, matrix, (input_size, input_size), flags=cv2.INTER_LINEAR)


def warp_region_mask(
    ignore_mask: UInt8[np.ndarray, "h w"],
    matrix: Float[np.ndarray, "2 3"],
    input_size: int,
    mask_outside: bool,
) -> Bool[np.ndarray, "m m"]:
    """False where the loss must not look, on the heatmap grid (m = input_size / 4).

    Heatmap pixel (i, j) is input pixel (4i, 4j), as for keypoints, and reads the image
    pixel nearest to it: False where that is to be ignored, and with `mask_outside` where
    there is no such pixel, so more than half a pixel beyond the image's outermost pixel
    centres. That is the warped mask of all ones of the released code, warped like the
    regions.

    Args:
        ignore_mask: not 0 where the loss must not look.
        matrix: image pixels -> input pixels.
        input_size: side of the network input, pixels.
        mask_outside: whether what lies outside the image is left out too.
    """
    side = input_size // HEATMAP_STRIDE
    warped = cv2.warpAffine(
        ignore_mask,
        matrix / HEATMAP_STRIDE,
        (side, side),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=255 if mask_outside else 0,
    )
    return warped == 0


def in_crop(keypoints: Float[np.ndarray, "n k 3"], input_size: int) -> Bool[np.ndarray, " n"]:
    """Whether a person has any labelled keypoint inside the input."""
    x, y, v = np.moveaxis(keypoints, -1, 0)
    inside = (x >= 0) & (x < input_size) & (y >= 0) & (y < input_size)
    return np.any(inside & (v > 0), axis=-1)


def pad_persons(persons: Persons, input_size: int, max_persons: int) -> tuple[Persons, int]:
    """The persons of a crop in `max_persons` slots, largest first, zeros behind them.

    A person whose labelled keypoints all lie outside the crop takes no slot. Of more
    visible persons than slots the largest are kept.

    Args:
        persons: float32 arrays of a row a person, keypoints [n, K, 3] and area [n] among them.
        input_size: side of the crop, pixels.
        max_persons: slots.

    Returns:
        The same arrays of `max_persons` rows, and the number of visible persons without a slot.
    """
    seen = np.flatnonzero(in_crop(persons["keypoints"], input_size))
    kept = seen[np.argsort(-persons["area"][seen], kind="stable")[:max_persons]]

    def pad(rows: np.ndarray) -> np.ndarray:
        padded = np.zeros((max_persons, *rows.shape[1:]), np.float32)
        padded[: len(kept)] = rows[kept]
        return padded

    return {name: pad(rows) for name, rows in persons.items()}, len(seen) - len(kept)
