"""Running the programs as a user does, in a process of their own.

Such a process is forked off one that has imported already what all programs import, which
is half of what a small one does. What depends on how Python starts runs in a new one.
"""

import atexit
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
from typing import Any

from tests.paths import ROOT
from tests.resident import give_back_freed

TIMEOUT = 900  # seconds; a hang must not stop the tests
DEVICES = "JAX_NUM_CPU_DEVICES"  # in the environment of a program

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["tests.preloaded"])


class Program:
    """One that was started; as a `subprocess.Popen` whose output goes to two files.

    Attributes:
        pid: number of its process.
    """

    def __init__(self, process: Any, folder: tempfile.TemporaryDirectory) -> None:
        self._process, self._folder = process, folder
        self.pid: int = process.pid

    def poll(self) -> int | None:
        """Its exit code, or the number of the signal that ended it below zero."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Its exit code.

        Raises:
            subprocess.TimeoutExpired: it did not end in time; it is killed.
        """
        self._process.join(timeout)
        if self.poll() is None:
            self.kill()
            raise subprocess.TimeoutExpired(self._process.name, timeout, stderr=self.stderr)
        return self.poll()

    def done(self, timeout: float = TIMEOUT) -> subprocess.CompletedProcess:
        """Waits for its end; its output is text."""
        code = self.wait(timeout)
        return subprocess.CompletedProcess(self._process.name, code, self.stdout, self.stderr)

    @property
    def stdout(self) -> str:
        """What it has printed until now."""
        return _stream(self._folder.name, 1).read_text()

    @property
    def stderr(self) -> str:
        """Its messages until now."""
        return _stream(self._folder.name, 2).read_text()


def start(
    *arguments: Any,
    cwd: pathlib.Path = ROOT,
    with_tensorflow: bool = True,
    **environment: str,
) -> Program:
    """Python with these arguments, a file or -m and a module first, in a checkout.

    Args:
        cwd: the checkout; its modules are those of this one.
        with_tensorflow: False has it run as if TensorFlow were not installed.
        environment: variables beside those of this process.
    """
    give_back_freed()  # this process waits
    folder = tempfile.TemporaryDirectory()
    words = [str(argument) for argument in arguments]
    wanted = os.environ | {"PYTHONPATH": str(cwd)} | environment
    what = words, str(cwd), wanted, with_tensorflow, folder.name
    process = _FORKED.Process(target=_become, args=what, name=" ".join(words))
    for number in (1, 2):
        _stream(folder.name, number).touch()
    process.start()
    return Program(process, folder)


def run(*arguments: Any, timeout: float = TIMEOUT, **options: Any) -> subprocess.CompletedProcess:
    """`start`, and its end."""
    return start(*arguments, **options).done(timeout)


def output_of(*arguments: Any, **options: Any) -> str:
    """What it prints; it must end well."""
    return ended_well(run(*arguments, **options)).stdout


def run_anew(*arguments: Any, cwd: pathlib.Path = ROOT, **environment: str) -> Any:
    """`run` in a new Python, which may also have code to run after a -c."""
    give_back_freed()
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(cwd)} | environment,
        timeout=TIMEOUT,
        check=False,
    )


def output_anew(*arguments: Any, **options: Any) -> str:
    """`output_of` a new Python."""
    return ended_well(run_anew(*arguments, **options)).stdout


def ended_well(done: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    """The same; its exit code must be 0."""
    assert done.returncode == 0, done.stderr
    return done


def _stream(folder: str, number: int) -> pathlib.Path:
    return pathlib.Path(folder, str(number))


def _become(
    words: list[str],
    cwd: str,
    environment: dict[str, str],
    with_tensorflow: bool,
    folder: str,
) -> None:
    """In the forked process: all that `python` does, and the program to its end."""
    import jax

    for number in (1, 2):
        os.dup2(os.open(_stream(folder, number), os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if DEVICES in environment:  # JAX has read its variables
        jax.config.update(DEVICES.lower(), int(environment[DEVICES]))
    if not with_tensorflow:
        sys.modules |= {name: None for name in ("tensorflow", "tensorflow_datasets")}
    try:
        _run(words, cwd)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def _run(words: list[str], cwd: str) -> None:
    if words[0] == "-m":
        sys.argv, sys.path[:0] = words[1:], [cwd]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = words, [os.path.dirname(words[0]), cwd]
        runpy.run_path(words[0], run_name="__main__")
