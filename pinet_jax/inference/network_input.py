"""From an image of any size to the network's input, on the host.

The short side goes to `input_size * scale` pixels, the long side follows and is
padded with black to a multiple of 64 (at scale 1), and the image's centre lands
on the input's centre. NumPy and OpenCV only.

With `square` every image is instead seen through a square of that many of its short
sides, as a training crop is that is not augmented: one network size for all images.
"""

import collections
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8
from ml_collections import ConfigDict

from pinet_jax.backbones.hrnet import NETWORK_STRIDE
from pinet_jax.errors import UserError

LONG_SIDE_MULTIPLE = 64  # of the released test procedure, at scale 1
WARP_LIMIT = 2**15 - 2  # OpenCV's warps take no longer side


class NetworkInput(NamedTuple):
    """What the network sees of one image.

    Attributes:
        images: one RGB image [H_s, W_s, 3] a scale, in the order of the scales.
        to_image: affine map from network-input pixels of scale 1 to image pixels.
    """

    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    to_image: Float32[np.ndarray, "2 3"]


def network_size(
    height: int, width: int, input_size: int, scale: float, square: float = 0.0
) -> tuple[int, int]:
    """Height and width in pixels of the network's input for an image of `height` x `width`."""
    short = int(input_size * scale)
    if square:
        return short, short
    follows = input_size / min(height, width) * max(height, width)
    blocks = int((follows + LONG_SIDE_MULTIPLE - 1) // LONG_SIDE_MULTIPLE)
    long = int(blocks * LONG_SIDE_MULTIPLE * scale)
    return (long, short) if width < height else (short, long)


def eval_size(height: int, width: int, config: ConfigDict, scale: float = 1.0) -> tuple[int, int]:
    """`network_size` with the numbers of config.eval."""
    return network_size(height, width, config.eval.input_size, scale, config.eval.square)


def plan_batches(sizes: Iterable[Hashable], most: Callable[[Hashable], int]) -> list[list[int]]:
    """Which images go through the network together: those of one size, in their order.

    Args:
        sizes: of each image's network input.
        most: how many of a size go together.

    Returns:
        Numbers of images, each once.
    """
    same_size = collections.defaultdict(list)
    for number, size in enumerate(sizes):
        same_size[size].append(number)
    return [
        numbers[start : start + most(size)]
        for size, numbers in same_size.items()
        for start in range(0, len(numbers), most(size))
    ]


def network_transform(
    height: int, width: int, input_size: int, scale: float, square: float = 0.0
) -> Float[np.ndarray, "2 3"]:
    """Affine map from image pixels to network-input pixels, (x, y, 1) -> (x, y), float64."""
    out_height, out_width = network_size(height, width, input_size, scale, square)
    zoom = int(input_size * scale) / (min(height, width) * (square or 1.0))
    center = np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)])
    shift = np.array([out_width, out_height]) / 2 - zoom * center
    return np.column_stack([zoom * np.eye(2), shift])


def prepare(
    image: UInt8[np.ndarray, "_ _ 3"],
    input_size: int,
    scales: Sequence[float],
    square: float = 0.0,
) -> NetworkInput:
    """The network's input for one RGB image at every scale.

    Args:
        image: RGB.
        input_size: pixels of the short side, or of the side of the square.
        scales: factors on it.
        square: side of a square view in short sides of the image; 0: all of the image.

    Raises:
        UserError: at some scale the input is no multiple of the network's stride.
    """
    height, width = image.shape[:2]
    warped = []
    for scale in scales:
        size = network_size(height, width, input_size, scale, square)
        _check_size(size, input_size, scale)
        transform = network_transform(height, width, input_size, scale, square)
        warped.append(_warp(image, transform, size))
    from_image = network_transform(height, width, input_size, 1.0, square)
    to_image = cv2.invertAffineTransform(from_image).astype(np.float32)
    return NetworkInput(tuple(warped), to_image)


def _check_size(size: tuple[int, int], input_size: int, scale: float) -> None:
    if min(size) == 0 or any(side % NETWORK_STRIDE for side in size):
        raise UserError(
            f"config.eval.scales: scale {scale} of config.eval.input_size {input_size} gives a "
            f"{size[0]}x{size[1]} input, which is no multiple of {NETWORK_STRIDE}: use multiples "
            f"of 0.5 as scales and of {LONG_SIDE_MULTIPLE} as input_size."
        )


def _warp(
    image: UInt8[np.ndarray, "_ _ 3"], transform: Float[np.ndarray, "2 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "_ _ 3"]:
    """`image` warped onto a black canvas of `size` (height, width), in tiles if it is long."""
    canvas = np.zeros((*size, 3), np.uint8)
    # Neither a tile nor the piece of the image under it (and its rim) may pass the limit.
    step = max(1, int(min(1, transform[0, 0]) * (WARP_LIMIT - 8)))
    for top in range(0, size[0], step):
        for left in range(0, size[1], step):
            _warp_tile(image, transform, canvas[top : top + step, left : left + step], (left, top))
    return canvas


def _warp_tile(
    image: UInt8[np.ndarray, "_ _ 3"],
    transform: Float[np.ndarray, "2 3"],
    tile: UInt8[np.ndarray, "_ _ 3"],
    corner: tuple[int, int],
) -> None:
    """Fills the `tile` whose first pixel is (x, y) `corner` of the canvas."""
    zoom, shift = transform[0, 0], transform[:, 2]
    begin = (corner - shift) / zoom
    end = (np.add(corner, tile.shape[1::-1]) - shift) / zoom
    limit = image.shape[1::-1]
    first = np.clip(np.floor(begin) - 1, 0, limit).astype(int)
    last = np.clip(np.ceil(end) + 2, 0, limit).astype(int)
    if np.any(first >= last):
        return
    piece = np.ascontiguousarray(image[first[1] : last[1], first[0] : last[0]])
    local = transform.copy()
    local[:, 2] += zoom * first - corner
    tile[:] = cv2.warpAffine(piece, local, tile.shape[1::-1], flags=cv2.INTER_LINEAR)
