"""Ending a training early without losing a step: signals, and an orchestrator's notice."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """The training was asked to stop, and has saved its state.

    Attributes:
        exit_code: 143 after SIGTERM or a notice, 130 after SIGINT, as of a process that
            the signal ended.
    """

    def __init__(self, number: int, message: str = ""):
        super().__init__(message)
        self.number = number
        self.exit_code = 128 + number


class StopRequest:
    """Notices a wish to stop once `listen` was called; a second signal ends at once.

    Several processes agree on the step through JAX's preemption service, which hears
    SIGTERM in any of them; SIGINT ends them as it would any program.

        with StopRequest() as stop:
            for step in steps:
                ...
                stop.listen()
                if stop.requested(step):
                    save()
    """

    def __init__(self):
        self.number = signal.SIGTERM  # what a notice of JAX stands for
        self._received = False
        self._at_once = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        return self

    def __exit__(self, *_exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def listen(self) -> None:
        """From now on signals are noticed; until then they end the process, as ever."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not self._before and in_main_thread and not jax.distributed.is_initialized():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def requested(self, step: int) -> bool:
        """Whether to save and stop after `step`; all processes ask at every step."""
        if jax.distributed.is_initialized():
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Work that may be broken off: a signal raises Stopped inside it."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _receive(self, number: int, _frame) -> None:
        if self._received:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number, self._received = signal.Signals(number), True
        if self._at_once:
            raise Stopped(self.number)
