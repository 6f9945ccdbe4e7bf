"""A frame as the correspondence network sees it: the whole of it in a square (section 1)."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8


def matrix(height: int, width: int, size: int) -> Float[np.ndarray, "2 3"]:
    """Frame pixels to pixels of the view: long side to `size`, centre to centre."""
    scale = size / max(height, width)
    middle = np.array([width, height]) / 2
    return np.column_stack([scale * np.eye(2), size / 2 - scale * middle])


def letterbox(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "s s 3"]:
    """The view of a frame, bilinear; black outside the frame."""
    return cv2.warpAffine(image, matrix(*image.shape[:2], size), (size, size))


def apply(matrix: Float[np.ndarray, "2 3"], points: Float[np.ndarray, "*n 2"]) -> np.ndarray:
    """Points moved by an affine map."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """The affine map back."""
    return cv2.invertAffineTransform(matrix)
