"""Saying what takes so long, once it does."""

import contextlib
import sys
import threading
from collections.abc import Iterator

from pinet_jax.runtime import hosts

PATIENCE = 3.0  # seconds; a program from the compilation cache is there by then


@contextlib.contextmanager
def explained(text: str, after: float = PATIENCE) -> Iterator[None]:
    """Says `text` on the main process's standard error if the block takes long.

    Args:
        text: one line.
        after: seconds until then.
    """
    timer = threading.Timer(after, _say, [text])
    timer.daemon = True
    if hosts.is_main():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say(text: str) -> None:
    with contextlib.suppress(Exception):  # as progress, it never stops the work
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # of a progress bar
        print(f"{clear}{text}", file=sys.stderr, flush=True)
