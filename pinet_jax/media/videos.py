"""Reading and writing videos, a frame at a time.

OpenCV reads films and webcams, Pillow reads animated GIF, PNG and WebP, whose frames
have times of their own. Films are written as MPEG-4 in .mp4, which OpenCV's wheels
can do everywhere.
"""

import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image, ImageSequence

from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.media.images import to_rgb
from pinet_jax.runtime import files

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
ANIMATIONS = ("GIF", "PNG", "WEBP")
DEFAULT_RATE = 25.0  # frames a second where a film or webcam does not tell
UNTIMED_FRAME = 100  # milliseconds a GIF's frame of no duration is shown, as browsers do
CUT_SHORT = 0.9  # fewer of the announced frames than this: the file is not whole


@dataclasses.dataclass(frozen=True)
class Video:
    """A stream of frames.

    Attributes:
        path: of the file, or a name for the webcam.
        rate: frames a second; of an animation with uneven times the mean.
        count: of frames as the file announces it, None where it does not.
        frames: starts reading and yields one RGB frame after the other, all of one
            size; UserError where the file turns out to be damaged.
        live: frames come when they are asked for, not at the rate.
        names: files of the frames, where each has its own.
    """

    path: pathlib.Path
    rate: float
    count: int | None
    frames: Callable[[], Iterator[RgbImage]]
    live: bool = False
    names: tuple[str, ...] | None = None

    def file_of(self, frame: int) -> str:
        """The file that frame number `frame`, counted from 0, is in."""
        return str(self.path) if self.names is None else self.names[frame]


def is_video(path: str | os.PathLike) -> bool:
    """Whether the file is a film, by its suffix, or an animation, by its content."""
    if pathlib.Path(path).suffix.lower() in SUFFIXES:
        return True
    try:
        with Image.open(path) as image:
            return image.format in ANIMATIONS and getattr(image, "is_animated", False)
    except Exception:  # Pillow's decoders raise many kinds; reading it will say what is wrong.
        return False


def open_video(path: str | os.PathLike) -> Video:
    """The film or animation in a file.

    Raises:
        UserError: the file is absent, empty or no video.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in SUFFIXES and is_video(path):
        return _open_animation(path)
    _silence_opencv()
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise UserError(f"Cannot read the video '{path}': {_reason(path)}.")
        announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        count = round(announced) if 0 < announced < 2**31 else None
        return Video(path, _rate(capture), count, lambda: _film_frames(path, count))
    finally:
        capture.release()


@contextlib.contextmanager
def open_webcam(index: int) -> Iterator[Video]:
    """The pictures of a webcam, as they are asked for, until Ctrl-C is pressed.

    Args:
        index: 0 for the first webcam.

    Raises:
        UserError: there is no such webcam.
    """
    _silence_opencv()
    capture = cv2.VideoCapture(index)
    try:
        if not capture.isOpened():
            raise UserError(f"--webcam {index}: there is no such camera, or it is in use.")
        with _interrupt_as_event() as stopped:
            frames = itertools.takewhile(lambda _: not stopped.is_set(), _captured(capture))
            name = pathlib.Path(f"webcam{index}")
            yield Video(name, _rate(capture), None, lambda: frames, live=True)
    finally:
        capture.release()


class VideoWriter:
    """Writes an .mp4; it is there when closed, whole or not at all.

    Odd sides are made even by repeating the last row or column, as the format wants.

        with VideoWriter(path, rate=25) as video:
            video.write(frame)

    Args:
        path: of the .mp4.
        rate: frames a second.
    """

    def __init__(self, path: pathlib.Path, rate: float):
        self.path, self.rate, self.count = path, rate, 0
        self._file = contextlib.ExitStack()
        self._temporary: pathlib.Path | None = None
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *exception) -> None:
        self._file.__exit__(*exception)  # `_finish`, then the file is put in its place

    def write(self, frame: RgbImage, times: int = 1) -> None:
        """Adds a frame of the first one's size; UserError if no video can be written."""
        height, width = frame.shape[:2]
        even = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            _silence_opencv()
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            size = even.shape[1::-1]
            self._temporary = self._file.enter_context(files.replacing(self.path))
            self._file.push(self._finish)
            self._writer = cv2.VideoWriter(str(self._temporary), codec, self.rate, size)
            if not self._writer.isOpened():
                raise UserError(
                    f"Cannot write '{self.path}' with frames of {size[0]}x{size[1]} pixels: name "
                    "another folder, or make the video smaller."
                )
        even = cv2.cvtColor(even, cv2.COLOR_RGB2BGR)
        for _ in range(times):
            self._writer.write(even)
        self.count += times

    def _finish(self, kind, *_exception) -> None:
        self._writer.release()
        if kind is not None:
            return
        # OpenCV does not tell of a full disk; a file without its index cannot be opened.
        written = cv2.VideoCapture(str(self._temporary))
        count = written.get(cv2.CAP_PROP_FRAME_COUNT)
        written.release()
        if round(count) != self.count:
            raise UserError(f"Cannot write '{self.path}': free some space or name another folder.")


class Pace:
    """How often each frame of a live video is written, so that it plays in real time.

    Args:
        rate: of the written video, frames a second.
    """

    def __init__(self, rate: float):
        self.rate, self._written, self._start = rate, 0, None

    def times(self) -> int:
        """For the frame that is ready now: as often as fills the time since the first."""
        now = time.monotonic()
        self._start = now if self._start is None else self._start
        due = int((now - self._start) * self.rate) + 1
        times = max(1, due - self._written)
        self._written += times
        return times


def _rate(capture: cv2.VideoCapture) -> float:
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and rate > 0 else DEFAULT_RATE


def _captured(capture: cv2.VideoCapture) -> Iterator[RgbImage]:
    while True:
        more, frame = capture.read()
        if not more:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _film_frames(path: pathlib.Path, announced: int | None) -> Iterator[RgbImage]:
    capture = cv2.VideoCapture(str(path))
    count = 0
    try:
        for frame in _captured(capture):
            yield frame
            count += 1
    finally:
        capture.release()
    if not count:
        raise UserError(f"The video '{path}' holds no frame that can be read.")
    if announced and count < CUT_SHORT * announced:
        raise UserError(f"The video '{path}' ends after {count} of its {announced} frames.")


def _open_animation(path: pathlib.Path) -> Video:
    times = []
    with contextlib.suppress(UserError), Image.open(path) as image:
        for frame in _sequence(path, image):
            times.append(frame.info.get("duration") or UNTIMED_FRAME)
    if not times:
        raise UserError(f"Cannot read the video '{path}': its first frame is damaged.")
    return Video(path, 1000 * len(times) / sum(times), len(times), lambda: _animation_frames(path))


def _animation_frames(path: pathlib.Path) -> Iterator[RgbImage]:
    with Image.open(path) as image:
        for frame in _sequence(path, image):
            yield np.array(to_rgb(frame))


def _sequence(path: pathlib.Path, image: Image.Image) -> Iterator[Image.Image]:
    """The frames of an open animation, loaded; UserError where it is damaged."""
    frames = ImageSequence.Iterator(image)
    for count in itertools.count():
        try:
            frame = next(frames)
            frame.load()
        except StopIteration:
            return
        except Exception as error:  # Pillow's decoders raise many kinds.
            raise UserError(f"The video '{path}' ends after {count} frames: {error}.") from None
        yield frame


@contextlib.contextmanager
def _interrupt_as_event() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, for once; pressed again it interrupts as usual."""
    stopped = threading.Event()
    usual = signal.getsignal(signal.SIGINT)

    def stop(*_) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, usual)


def _reason(path: pathlib.Path) -> str:
    if not path.is_file():
        return "no such file"
    return "it is not a video of a known format" if path.stat().st_size else "the file is empty"


def _silence_opencv() -> None:
    """For whatever goes wrong with videos: it is told in one sentence, FFmpeg's would garble it."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when FFmpeg is first used
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
