"""How much memory this process holds."""

import os
import pathlib

STATM = pathlib.Path("/proc/self/statm")  # of Linux


def resident() -> int:
    """Bytes that are resident; 0 where the system does not tell."""
    if not STATM.exists():
        return 0
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
