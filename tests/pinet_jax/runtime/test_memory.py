"""A process's memory, in processes of their own: its settings hold for all of one."""

import platform
import subprocess
import sys
import types

import pytest

from pinet_jax.runtime import memory
from tests.paths import ROOT

of_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is another libc")


def output_of(code, *arguments):
    """The numbers that the code prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    return [int(word) for word in done.stdout.split()]


ALLOCATIONS = """
import resource, sys, threading
from pinet_jax.runtime import memory

def faults_again():
    \"\"\"Pages that the system has to clear for memory that was used and freed before.\"\"\"
    bytes(40_000_000).strip(b"x")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        b"x" * 40_000_000
    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

found = []
if sys.argv[1] == "keep":
    memory.keep_freed_memory()
for run in (faults_again, threading.Thread(target=faults_again).start):
    run()
while len(found) < 2:
    pass
print(max(found))
"""


@pytest.mark.slow
@of_glibc
def test_freed_memory_is_kept_for_every_thread():
    (kept,), (left,) = output_of(ALLOCATIONS, "keep"), output_of(ALLOCATIONS, "leave")
    assert kept < 20_000 < 90_000 < left  # 10 times 40 MB: 98,000 pages


OBJECTS = """
import gc, sys
from pinet_jax.runtime import memory

if sys.argv[1] == "rarely":
    memory.collect_rarely()
gc.callbacks.append(lambda phase, info: looks.append(phase))
looks = []
kept = [[] for _ in range(200_000)]
print(looks.count("start"))
"""


def test_garbage_is_looked_for_rarely():
    (rarely,), (as_usual,) = output_of(OBJECTS, "rarely"), output_of(OBJECTS, "usual")
    assert 0 < rarely < 10 < 100 < as_usual


HOLES = """
import ctypes, resource, sys
from pinet_jax.runtime import memory

if sys.argv[1] == "keep":
    memory.keep_freed_memory()
libc = memory._glibc()
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
sizes = [5_000 + 10 * number for number in range(8_000)]  # 360 MB, every second one a hole
pieces = [libc.malloc(size) for size in sizes]
for piece, size in zip(pieces, sizes):
    libc.memset(piece, 1, size)
for piece in pieces[::2]:
    libc.free(piece)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

before = resident()
memory.fill_holes()
after = resident()
inside = sum(libc.malloc(size) < pieces[-1] for size in range(8_000, 80_000, 720))
print(inside, before - after)
"""


@of_glibc
def test_holes_are_filled_and_give_their_pages_back():
    inside, returned = output_of(HOLES, "keep")
    assert inside == 0
    assert returned > 100_000_000  # of the 180 MB of the holes


@of_glibc
def test_holes_stay_where_memory_is_not_kept():
    inside, returned = output_of(HOLES, "leave")
    assert inside > 90  # of 100
    assert abs(returned) < 1_000_000  # looking takes a page or two


def test_another_libc_is_left_alone(monkeypatch):
    called = []
    other = types.SimpleNamespace(mallopt=lambda *arguments: called.append(arguments))
    monkeypatch.setattr("ctypes.CDLL", lambda _: other)
    memory.keep_freed_memory()
    memory.fill_holes()
    assert not called
