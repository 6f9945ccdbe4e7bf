"""Variants in a process of their own."""

import os

import pytest

from pinet_jax.errors import UserError
from tools.benchmarks import elsewhere
from tools.benchmarks.timing import Variant


def marking(folder, exit_code=None):
    """Two variants that leave their process's number in a file each."""

    def mark(name):
        (folder / name).write_text(str(os.getpid()))

    def leave():
        os._exit(exit_code)

    first = Variant("first", lambda: mark("first"), items=3)
    return first, Variant("second", leave if exit_code else lambda: mark("second"))


def refusing(why):
    raise UserError(why)


def test_they_run_there_when_they_are_asked(tmp_path):
    with elsewhere.variants(marking, tmp_path) as (first, second):
        assert (first.name, first.items, second.name) == ("first", 3, "second")
        first.run()
        assert [path.name for path in tmp_path.iterdir()] == ["first"]
        second.run()
    there = {path.read_text() for path in tmp_path.iterdir()}
    assert len(there) == 1 and there != {str(os.getpid())}


def test_errors_come_back(tmp_path):
    with (
        pytest.raises(UserError, match="apart"),
        elsewhere.variants(refusing, "They are apart."),
    ):
        pass


def test_a_process_that_ends_is_an_error(tmp_path):
    with (
        pytest.raises(UserError, match="has ended"),
        elsewhere.variants(marking, tmp_path, 3) as (_, second),
    ):
        second.run()
