"""Long work says what it is, quick work says nothing."""

import threading

from pinet_jax.runtime import hosts, waiting


def wait_for(said):
    """Until something is said, a minute at most."""
    assert said.wait(60)


def test_only_long_work_is_explained_once(capsys, monkeypatch):
    said, say = threading.Event(), waiting._say
    monkeypatch.setattr(waiting, "_say", lambda text: (say(text), said.set()))
    with waiting.explained("compiling", after=0.01):
        wait_for(said)
    with waiting.explained("quick", after=1000):
        pass
    assert capsys.readouterr().err == "compiling\n"


def test_other_processes_and_failures(capsys, monkeypatch):
    monkeypatch.setattr(hosts, "is_main", lambda: False)
    started = threading.active_count()
    try:
        with waiting.explained("compiling", after=0.0):
            assert threading.active_count() == started
            raise ValueError
    except ValueError:
        pass
    assert capsys.readouterr().err == ""
