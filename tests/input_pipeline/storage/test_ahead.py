"""Threads that compute ahead: order, bound, errors."""

import time

import pytest

from input_pipeline.storage.ahead import by_threads
from pinet_jax.errors import UserError

THREADS = 3


def test_threads_keep_the_order_and_run_a_little_ahead():
    begun, last = [], 100

    def one(item):
        begun.append(item)
        time.sleep(0.003 * (item % 3))  # so that later ones are done first
        return item

    results = by_threads(one, range(last), THREADS)
    first = next(results)
    assert len(begun) <= 1 + THREADS
    assert [first, *results] == list(range(last))


def test_what_fails_fails_in_its_place():
    def one(item):
        if item == 2:
            raise UserError("no scene 2")
        return item

    results = by_threads(one, range(100), THREADS)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(UserError, match="no scene 2"):
        next(results)
