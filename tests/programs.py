"""Running the programs as a user does, in a process of their own."""

import os
import pathlib
import subprocess
import sys

from tests.paths import ROOT
from tests.resident import give_back_freed

TIMEOUT = 900  # seconds; a hang must not stop the tests

# With -c: runs the program that is named next as if TensorFlow were not installed.
WITHOUT_TENSORFLOW = """
import runpy, sys
for name in ("tensorflow", "tensorflow_datasets"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments, cwd: pathlib.Path = ROOT) -> subprocess.CompletedProcess:
    """Python with these arguments, in a checkout; its output is text."""
    give_back_freed()  # this process waits
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(cwd)},
        timeout=TIMEOUT,
        check=False,
    )


def output_of(*arguments) -> str:
    """What it prints; it must end well."""
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
