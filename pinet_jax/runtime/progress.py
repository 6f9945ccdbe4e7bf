"""A progress line for long loops: a bar on a terminal, plain lines in a log."""

import io
import shutil
import sys
import time

from tqdm import tqdm

REDRAW_SECONDS = 0.1
LOG_LINE_SECONDS = 10.0


class Progress:
    """Counts the steps of a loop and shows how far it is.

    On a terminal one line is redrawn in place; elsewhere (a file, a pipe) a plain
    line appears every ten seconds and at the end. A stream that cannot be written
    to silences the display: progress never stops the work.

        with Progress(len(batches), "predict") as progress:
            for batch in batches:
                ...
                progress.update(loss=0.1)

    Args:
        total: number of steps expected, None where unknown.
        description: the word the line starts with.
        stream: where it is shown, standard error unless given.
        start: steps done before, by a run that is being resumed.
    """

    def __init__(
        self,
        total: int | None,
        description: str,
        stream: io.TextIOBase | None = None,
        start: int = 0,
    ):
        self.total = total
        self.description = description
        self.count = start
        self._first = start
        self._stream = sys.stderr if stream is None else stream
        self._interactive = _is_terminal(self._stream)
        self._interval = REDRAW_SECONDS if self._interactive else LOG_LINE_SECONDS
        self._figures: dict[str, object] = {}
        self._start = time.monotonic()
        self._next_show = self._start + self._interval
        self._closed = False

    def __enter__(self) -> "Progress":
        if self._interactive:
            self._show()
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def update(self, n: int = 1, **figures: object) -> None:
        """Counts `n` more steps; `figures` (loss=0.1) are shown until replaced."""
        self.count += n
        self._figures.update(figures)
        now = time.monotonic()
        if now >= self._next_show:
            self._next_show = now + self._interval
            self._show()

    def close(self) -> None:
        """Shows the last state and ends the line; further calls do nothing."""
        if not self._closed:
            self._closed = True
            self._show()

    def _show(self) -> None:
        try:
            text = self._line()
            if self._interactive:
                text = "\r" + text + "\x1b[K" + ("\n" if self._closed else "")
            else:
                text += "\n"
            self._stream.write(text)
            self._stream.flush()
        except Exception:
            self._next_show, self._closed = float("inf"), True

    def _line(self) -> str:
        """Share, count, [time so far < time left, rate, figures]; a bar on a terminal alone."""
        figures = ", ".join(f"{name}={_figure(value)}" for name, value in self._figures.items())
        columns = shutil.get_terminal_size().columns - 1 if self._interactive else 0
        line = tqdm.format_meter(
            self.count,
            self.total,
            elapsed=time.monotonic() - self._start,
            ncols=columns,
            prefix=self.description,
            ascii=" #",
            postfix=figures,
            initial=self._first,
        )
        return line[: columns or None]


def _is_terminal(stream: io.TextIOBase) -> bool:
    try:
        return stream.isatty()
    except Exception:
        return False


def _figure(value: object) -> str:
    try:
        return f"{float(value):.4g}"
    except (TypeError, ValueError):
        return str(value)
