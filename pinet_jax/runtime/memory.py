"""The memory of a process, told to suit programs that trace networks and repeat their steps.

glibc's allocator is for programs on a CPU, which take and free the same arrays step after
step. Another libc stays as it is.
"""

import ctypes
import gc
from typing import Any

_KEEP = {  # mallopt's options, by their numbers in <malloc.h>
    -8: 1,  # M_ARENA_MAX: one heap for all threads
    -4: 0,  # M_MMAP_MAX: large arrays too are in it
    -1: -1,  # M_TRIM_THRESHOLD: and it never shrinks
}
_BEYOND = 2**30  # bytes; more than the holes that compiling leaves
_LARGEST, _SMALLEST = 2**19, 2**12  # bytes of what holes are filled with
_SHRINK = 0.93  # from one size of it to the next
_is_kept = False  # whether this process keeps what it has freed
_OBJECTS = 50_000  # new ones between two looks for garbage; Python's own figure is 700


def collect_rarely() -> None:
    """Has Python look for garbage in cycles only when there are many new objects.

    Tracing a network makes a million objects, nearly all of which stay: looking through
    them again and again takes a quarter of its time.
    """
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])


def keep_freed_memory() -> None:
    """Has glibc keep what is freed for the next allocation.

    Otherwise it gives the maps of every step back to the system, which clears each page of
    them for the next: a quarter of a small step's time on a CPU. To be called before JAX
    starts its threads, which would get arenas of their own to which none of this applies.
    Beside an accelerator the many threads that read images had better not share one heap.
    """
    global _is_kept
    libc = _glibc()
    if libc is None:
        return
    for option, value in _KEEP.items():
        libc.mallopt(option, value)
    _is_kept = True


def fill_holes() -> None:
    """Takes what is free inside the heap for good; to be called when a program is compiled.

    Compiling leaves tens of thousands of small holes between what stays. glibc keeps them
    in lists by size, and every thread that takes or frees a buffer walks through these under
    the heap's one lock: a fifth of a small step's time. The pages are given back to the
    system first and not touched again, so this costs addresses, but no memory.

    Does nothing where freed memory is not kept.
    """
    if not _is_kept:
        return
    libc = _glibc()
    libc.malloc_trim(0)
    end = libc.malloc(_BEYOND) or 0
    libc.free(end)
    size = _LARGEST
    while size >= _SMALLEST:
        while 0 < (taken := libc.malloc(size) or 0) < end:
            pass
        libc.free(taken)
        size = int(size * _SHRINK)


def _glibc() -> Any:
    """The C library with the types of its functions, None if it is not glibc."""
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 (only glibc has it)
    except (AttributeError, OSError, TypeError):
        return None
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
    return libc
