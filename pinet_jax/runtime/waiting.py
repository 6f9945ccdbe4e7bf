"""Saying what takes so long, once it does, and what follows the longest: a compilation."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax

from pinet_jax.runtime import hosts, memory

Done = TypeVar("Done")

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


def first_run(text: str, program: Callable[..., Done], *arguments: object) -> Done:
    """program(*arguments), when that compiles it: explained by `text`, its memory in order after.

    Args:
        text: as of `explained`.
        program: a compiled function.
        arguments: of it.
    """
    with explained(text):
        done = jax.block_until_ready(program(*arguments))
    memory.fill_holes()
    return done


def _say(text: str) -> None:
    with contextlib.suppress(Exception):  # as progress, it never stops the work
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # of a progress bar
        print(f"{clear}{text}", file=sys.stderr, flush=True)
