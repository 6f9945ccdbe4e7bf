"""Variants that run in a process of their own, where they share no memory with the others.

Two libraries in one heap cut up what the other has freed: a step of W32 beside PyTorch's then
takes a fifth longer than alone.
"""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from pinet_jax import program
from pinet_jax.errors import UserError
from tools.benchmarks.timing import Variant


@contextlib.contextmanager
def variants(build: Callable[..., Sequence[Variant]], *arguments: Any) -> Iterator[list[Variant]]:
    """What `build(*arguments)` makes in a new process, to be run from here until the end.

    Args:
        build: a function of a module; it is called there.
        arguments: are pickled.

    Raises:
        UserError: of `build`, or the process has ended.
    """
    spawning = multiprocessing.get_context("spawn")
    here, there = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(there, build, arguments), daemon=True)
    process.start()
    there.close()
    try:
        made = _answer(here)
        yield [Variant(name, _Asked(here, i), items) for i, (name, items) in enumerate(made)]
    finally:
        here.close()  # which ends it
        process.join()


class _Asked:
    """Has the other process run one of its variants."""

    def __init__(self, pipe: Connection, number: int):
        self.pipe, self.number = pipe, number

    def __call__(self) -> None:
        self.pipe.send(self.number)
        _answer(self.pipe)


def _answer(pipe: Connection) -> Any:
    try:
        answer = pipe.recv()
    except EOFError:
        raise UserError("The process that was measured has ended: see above.") from None
    if isinstance(answer, UserError):
        raise answer
    return answer


def _serve(pipe: Connection, build: Callable, arguments: tuple) -> None:
    program.keep_freed_memory()  # as in the process that asks
    try:
        made = build(*arguments)
    except UserError as error:
        return pipe.send(error)
    pipe.send([(variant.name, variant.items) for variant in made])
    with contextlib.suppress(EOFError):  # nobody asks any more
        while True:
            made[pipe.recv()].run()
            pipe.send(None)
