import io

import pytest

from pinet_jax.runtime import progress
from pinet_jax.runtime.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_terminal_line_is_redrawn_in_place(clock):
    stream = Terminal()
    with Progress(4, "train", stream) as bar:
        for _ in range(4):
            clock.now += 2
            bar.update(loss=0.25)
    text = stream.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n")
    redraws = text.split("\r")[1:]
    assert len(redraws) == 6  # at the start, four updates, the end
    half = redraws[2]
    assert half.startswith("train:  50%|") and half.count("#") == half.split("|")[1].count(" ")
    assert "| 2/4 [00:04<00:04,  2.00s/it, loss=0.25]" in half


def test_a_log_gets_plain_lines_ten_seconds_apart(clock):
    stream = io.StringIO()
    with Progress(100, "predict", stream) as bar:
        for _ in range(100):
            clock.now += 0.25
            bar.update()
    lines = stream.getvalue().splitlines()
    assert lines == [
        "predict:  40% 40/100 [00:10<00:15,  4.00it/s]",
        "predict:  80% 80/100 [00:20<00:05,  4.00it/s]",
        "predict: 100% 100/100 [00:25<00:00,  4.00it/s]",
    ]
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_a_resumed_run_counts_its_rate_from_where_it_started(clock):
    stream = io.StringIO()
    with Progress(1000, "train", stream, start=900) as bar:
        clock.now += 10
        bar.update(50)
    first = stream.getvalue().splitlines()[0]
    assert first == "train:  95% 950/1000 [00:10<00:10,  5.00it/s]"


def test_an_unknown_total_shows_the_count(clock):
    stream = io.StringIO()
    with Progress(None, "render", stream) as bar:
        clock.now += 4000
        bar.update(8000)
    assert stream.getvalue().splitlines()[-1] == "render: 8000it [1:06:40,  2.00it/s]"


@pytest.mark.parametrize("total", [0, 1])
def test_an_empty_or_overrun_loop_is_no_error(total):
    stream = Terminal()
    with Progress(total, "x", stream) as bar:
        bar.update(total * 2, note="text")
    assert stream.getvalue()


def test_a_closed_stream_does_not_stop_the_work():
    stream = Terminal()
    with Progress(3, "x", stream) as bar:
        stream.close()
        bar._next_show = 0
        bar.update(3)
    assert bar.count == 3


@pytest.mark.parametrize("total", [10, None])
def test_a_narrow_terminal_is_never_overrun(clock, monkeypatch, total):
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    with Progress(total, "a video of quite a long name.mp4", stream) as bar:
        clock.now += 1
        bar.update(5, people=3)
    drawn = stream.getvalue().removesuffix("\n").replace("\x1b[K", "").split("\r")
    assert max(map(len, drawn)) == 39
