"""How much memory this process holds, and how it gives back what it can make again."""

import ctypes
import functools
import gc
import os
import pathlib
import sys

import jax

STATM = pathlib.Path("/proc/self/statm")  # of Linux


def resident() -> int:
    """Bytes that are resident; 0 where the system does not tell."""
    if not STATM.exists():
        return 0
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def give_back() -> None:
    """Drops compiled programs and what tests have cached, such as released weights."""
    jax.clear_caches()
    for name in [name for name in sys.modules if name.startswith("tests.")]:
        for value in list(vars(sys.modules[name]).values()):
            if isinstance(value, functools._lru_cache_wrapper):
                value.cache_clear()
    gc.collect()
    give_back_freed()


def give_back_freed() -> None:
    """Returns what was freed to the system, which glibc keeps; another libc does so by itself."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
