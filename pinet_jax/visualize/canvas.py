"""What every picture is put together with: images resized, padded, titled, side by side."""

import functools
import os
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pinet_jax.data import RgbImage
from pinet_jax.runtime import files

Color = tuple[int, int, int]

PAPER = (250, 250, 250)
INK = (40, 40, 40)


def save_png(image: RgbImage, path: str | os.PathLike) -> None:
    """Writes a PNG, whole or not at all; UserError if it cannot be written."""
    with files.replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def resized(image: RgbImage, factor: float) -> RgbImage:
    """The image `factor` times as large, at least one pixel."""
    if factor == 1:
        return image.copy()
    height, width = image.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    method = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return cv2.resize(image, size, interpolation=method)


def scaled_points(points: np.ndarray, factor: float) -> np.ndarray:
    """Where (x, y) points come to lie on an image resized by `factor`."""
    return (points + 0.5) * factor - 0.5  # pixel centres are at whole coordinates


def pad(image: RgbImage, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0) -> RgbImage:
    """The image with a border of paper, in pixels."""
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=PAPER)


def side_by_side(images: Sequence[RgbImage], gap: int) -> RgbImage:
    """Images in a row, `gap` pixels apart, aligned at the top."""
    height = max(image.shape[0] for image in images)
    padded = [
        pad(image, bottom=height - image.shape[0], right=gap if i < len(images) - 1 else 0)
        for i, image in enumerate(images)
    ]
    return np.concatenate(padded, axis=1)


def grid(images: Sequence[RgbImage], columns: int, gap: int) -> RgbImage:
    """Images in rows of `columns`, `gap` pixels apart."""
    rows = [side_by_side(images[i : i + columns], gap) for i in range(0, len(images), columns)]
    width = max(row.shape[1] for row in rows)
    last = len(rows) - 1
    return np.concatenate(
        [
            pad(row, right=width - row.shape[1], bottom=gap if i < last else 0)
            for i, row in enumerate(rows)
        ]
    )


def titled(image: RgbImage, title: str, size: int) -> RgbImage:
    """The image under a line of text, `size` pixels high."""
    return np.concatenate([_text_strip(image.shape[1], title, size), image])


def underlined(image: RgbImage, text: str) -> RgbImage:
    """The image above a line of text."""
    return np.concatenate([image, _text_strip(image.shape[1], text, 16)])


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, `size` pixels high."""
    return ImageFont.load_default(size)


def _text_strip(width: int, text: str, size: int) -> RgbImage:
    """A line of text, cut off where the width ends."""
    strip = Image.new("RGB", (width, round(1.6 * size)), PAPER)
    ImageDraw.Draw(strip).text((1, size // 4), text, fill=INK, font=font(size))
    return np.array(strip)
