"""What the correspondence network sees of a frame, and where in it (section 1)."""

from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, Real, UInt8
from ml_collections import ConfigDict

from pinet_jax.data import AnyArray, RgbImage
from pinet_jax.inference.backbone_maps import BackboneMaps
from pinet_jax.inference.network_input import network_transform, prepare


@runtime_checkable
class View(Protocol):
    """The whole of a frame as the network sees it; cells of its features are 4 pixels of this."""

    def matrix(self, height: int, width: int) -> Float[np.ndarray, "2 3"]:
        """Frame pixels to pixels of the view."""

    def see(self, image: RgbImage) -> Real[AnyArray, "h w c"]:
        """What `CorrespondenceNet.describe` wants of a frame."""


class SquareView:
    """config.tracking.features "own": letterboxed into a square, as RGB.

    Args:
        size: of the square, pixels.
    """

    def __init__(self, size: int):
        self._size = size

    def matrix(self, height: int, width: int) -> Float[np.ndarray, "2 3"]:
        """Frame pixels to pixels of the view: long side to the square's, centre to centre."""
        scale = self._size / max(height, width)
        middle = np.array([width, height]) / 2
        return np.column_stack([scale * np.eye(2), self._size / 2 - scale * middle])

    def see(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """The view of a frame, bilinear; black outside the frame."""
        size = self._size
        return cv2.warpAffine(image, self.matrix(*image.shape[:2]), (size, size))


class ModelView:
    """config.tracking.features "shared": as the model sees it at scale 1, its backbone's map.

    Args:
        maps: of the model's backbone.
        config: config.eval of the model.
    """

    def __init__(self, maps: BackboneMaps, config: ConfigDict):
        self._maps, self._size, self._square = maps, config.input_size, config.square

    def matrix(self, height: int, width: int) -> Float[np.ndarray, "2 3"]:
        """Frame pixels to pixels of the network input."""
        return network_transform(height, width, self._size, 1.0, self._square)

    def see(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[AnyArray, "h4 w4 f"]:
        """The backbone's map of a frame."""
        seen = prepare(image, self._size, (1.0,), self._square)
        return self._maps(seen.images[0][None])[0]


def apply(matrix: Float[np.ndarray, "2 3"], points: Float[np.ndarray, "*n 2"]) -> np.ndarray:
    """Points moved by an affine map."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """The affine map back."""
    return cv2.invertAffineTransform(matrix)
