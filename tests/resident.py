"""How much memory this process holds."""

import ctypes
import os
import pathlib

STATM = pathlib.Path("/proc/self/statm")  # of Linux


def resident() -> int:
    """Bytes that are resident; 0 where the system does not tell."""
    if not STATM.exists():
        return 0
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def give_back_freed() -> None:
    """Returns what was freed to the system, which glibc keeps; another libc does so by itself."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
