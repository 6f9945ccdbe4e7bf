"""Finding and reading image files."""

import glob
import os
import pathlib
from collections.abc import Collection, Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from pinet_jax.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def read_image(path: str | os.PathLike) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in a file as RGB, upright.

    Its EXIF orientation is applied; grey, 16-bit and CMYK pictures are converted,
    transparent ones shown on black, and of an animation the first frame is taken.

    Raises:
        UserError: the file is absent, empty, cut short or not a picture.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return np.array(to_rgb(ImageOps.exif_transpose(image)))
    except Exception as error:  # Pillow's decoders raise many kinds.
        raise UserError(f"Cannot read the image '{path}': {_reason(path, error)}.") from None


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """Height and width in pixels of the upright picture, from the file's header alone.

    Raises:
        UserError: the file is absent, empty or not a picture.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in QUARTER_TURNS
            return image.size if turned else image.size[::-1]
    except Exception as error:  # Pillow's decoders raise many kinds.
        raise UserError(f"Cannot read the image '{path}': {_reason(path, error)}.") from None


def find_images(
    paths: Iterable[str | os.PathLike], suffixes: Collection[str] = SUFFIXES
) -> list[pathlib.Path]:
    """Image files named by `paths`: files, folders (with their subfolders) and globs.

    Args:
        paths: of files, folders or globs.
        suffixes: what counts in folders and globs, in lower case.

    Returns:
        Each file once, sorted by name. A file named outright counts whatever its suffix.

    Raises:
        UserError: a path holds no image.
    """
    found = set()
    for path in paths:
        images = _expand(pathlib.Path(path).expanduser(), suffixes)
        if not images:
            raise UserError(f"No image at '{path}': give image files, folders or globs.")
        found.update(images)
    if not found:
        raise UserError("No images given: name image files, folders or globs.")
    return sorted(found)


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB, shown on black where it is transparent."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _expand(path: pathlib.Path, suffixes: Collection[str]) -> list[pathlib.Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        matches = path.rglob("*")
    else:
        matches = map(pathlib.Path, glob.glob(str(path), recursive=True))
    return [p for p in matches if p.suffix.lower() in suffixes and p.is_file()]


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Deep grey values to 8 bits; Pillow would clip them at 255 instead."""
    if np.issubdtype(values.dtype, np.floating) and values.max() <= 1:
        scaled = values * 255.0  # by custom floats run from 0 to 1
    elif values.max() > 255:
        scaled = values / 257.0  # 65535 -> 255
    else:
        scaled = values
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def _reason(path: str | os.PathLike, error: Exception) -> str:
    """Why a read failed, in words."""
    path = pathlib.Path(path)
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is not a picture of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).rstrip(".") or type(error).__name__
