"""Videos that are folders of frames, as PoseTrack and many other benchmarks have them."""

import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.media import images
from pinet_jax.media.videos import DEFAULT_RATE, Video, is_video
from pinet_jax.media.videos import SUFFIXES as VIDEO_SUFFIXES

SUFFIXES = tuple(suffix for suffix in images.SUFFIXES if suffix != ".gif")  # of frames


def find_videos(paths: Iterable[str | os.PathLike]) -> list[pathlib.Path]:
    """Files named by `paths`, and in the folders among them videos and folders of frames.

    Raises:
        UserError: a path holds neither.
    """
    found: set[pathlib.Path] = set()
    for path in paths:
        folder = pathlib.Path(path).expanduser()
        if not folder.is_dir():
            found.update(images.find_images([path], images.SUFFIXES + VIDEO_SUFFIXES))
            continue
        inside = [p for p in (folder, *folder.rglob("*")) if _is_folder_of_frames(p) or _film(p)]
        if not inside:
            raise UserError(f"No video at '{path}': give videos, or folders of frames.")
        found.update(inside)
    if not found:
        raise UserError("No videos given: name videos, or folders of frames.")
    return sorted(found)


def _film(path: pathlib.Path) -> bool:
    return path.suffix.lower() in (*VIDEO_SUFFIXES, ".gif") and path.is_file() and is_video(path)


def _is_folder_of_frames(path: pathlib.Path) -> bool:
    return path.is_dir() and any(map(_is_frame, path.iterdir()))


def _is_frame(path: pathlib.Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def open_frames(folder: pathlib.Path) -> Video:
    """The video of a folder's images, by rising name, at the default rate."""
    paths = sorted(filter(_is_frame, folder.iterdir()))
    names = tuple(map(str, paths))
    return Video(folder, DEFAULT_RATE, len(paths), lambda: _read(paths), names=names)


def _read(paths: Sequence[pathlib.Path]) -> Iterator[RgbImage]:
    size = None
    for path in paths:
        frame = images.read_image(path)
        if size not in (None, frame.shape):
            height, width = frame.shape[:2]
            raise UserError(
                f"The frame '{path}' has {width}x{height} pixels and those before it "
                f"{size[1]}x{size[0]}: give every video a folder of its own."
            )
        size = frame.shape
        yield frame
