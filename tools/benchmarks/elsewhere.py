"""Variants that run in a process of their own, where they share no memory with the others.

Two libraries in one heap cut up what the other has freed: a step of W32 beside PyTorch's then
takes a fifth longer than alone.
"""

import contextlib
import functools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pinet_jax.errors import UserError
from pinet_jax.runtime import memory
from tools.benchmarks.timing import Variant

_MADE: list[Variant] = []  # in the other process


def process() -> ProcessPoolExecutor:
    """A new process, whose memory is managed as that of the one that asks."""
    spawning = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, spawning, initializer=memory.keep_freed_memory)


@contextlib.contextmanager
def variants(build: Callable[..., Sequence[Variant]], *arguments: Any) -> Iterator[list[Variant]]:
    """What `build(*arguments)` makes in a new process, to be run from here until the end.

    Args:
        build: a function of a module; it is called there.
        arguments: are pickled.

    Raises:
        UserError: the process has ended; errors of `build` and of the variants come as they are.
    """
    with process() as there:

        def run(number: int) -> None:
            there.submit(_run, number).result()

        try:
            made = there.submit(_make, build, arguments).result()
            yield [
                Variant(name, functools.partial(run, number), items)
                for number, (name, items) in enumerate(made)
            ]
        except BrokenProcessPool:
            raise UserError("The process that was measured has ended: see above.") from None


def _make(build: Callable[..., Sequence[Variant]], arguments: tuple) -> list[tuple[str, int]]:
    _MADE.extend(build(*arguments))
    return [(variant.name, variant.items) for variant in _MADE]


def _run(number: int) -> None:
    _MADE[number].run()
