"""What fills the memory of the test suite is given back."""

import functools

from tests import resident


@functools.cache
def made():
    return object()


def test_what_tests_have_cached_is_forgotten():
    first = made()
    assert made() is first
    resident.give_back()
    assert made() is not first
