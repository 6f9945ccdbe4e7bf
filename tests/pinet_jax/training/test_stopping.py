import os
import signal
import subprocess
import sys

import pytest

from pinet_jax.training.stopping import Stopped, StopRequest

TWICE = """
import os, signal, time
from pinet_jax.training.stopping import StopRequest
with StopRequest() as stop:
    stop.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def handlers() -> list:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


@pytest.fixture(autouse=True)
def handlers_stay_as_they_were():
    before = handlers()
    yield
    assert handlers() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_a_request(number, code):
    with StopRequest() as stop:
        stop.listen()
        stop.listen()
        assert not stop.requested(1)
        os.kill(os.getpid(), number)
        assert stop.requested(2) and stop.requested(3)
        assert stop.number == number and Stopped(stop.number).exit_code == code


def test_before_listening_a_signal_does_what_it_ever_does():
    before = handlers()
    with StopRequest() as stop:
        assert handlers() == before
        stop.listen()
        assert handlers() != before


def test_work_that_may_be_broken_off_is():
    with StopRequest() as stop:
        stop.listen()
        with pytest.raises(Stopped), stop.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested(1)


def test_the_second_signal_ends_the_process_at_once():
    done = subprocess.run([sys.executable, "-c", TWICE], timeout=60, check=False)
    assert done.returncode == -signal.SIGTERM
