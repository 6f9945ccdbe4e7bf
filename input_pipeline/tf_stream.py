"""Iterating a tf.data dataset that calls back into Python."""

import atexit
import contextlib
import functools
import weakref
from collections.abc import Generator
from typing import Any

from input_pipeline.quiet_tf import tf

_open_streams: weakref.WeakSet[Generator] = weakref.WeakSet()


def numpy_stream(dataset: tf.data.Dataset) -> Generator[Any, None, None]:
    """The dataset's elements as NumPy arrays.

    TensorFlow's threads that call Python abort the process if they still run when the
    interpreter shuts down, so streams that are open at exit are closed first.
    """
    _close_streams_at_exit()
    stream = _iterate(dataset)
    _open_streams.add(stream)
    return stream


def _iterate(dataset: tf.data.Dataset) -> Generator[Any, None, None]:
    yield from dataset.as_numpy_iterator()


@functools.cache
def _close_streams_at_exit() -> None:
    atexit.register(_close_streams)


def _close_streams() -> None:
    for stream in list(_open_streams):
        with contextlib.suppress(ValueError):  # running in another thread
            stream.close()
