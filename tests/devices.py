"""Fewer devices than there are, without another process for every number."""

import contextlib
from collections.abc import Iterator

import jax
import pytest


@contextlib.contextmanager
def use(count: int) -> Iterator[None]:
    """Inside, the library sees the first `count` devices."""
    devices = jax.devices()[:count]
    if len(devices) < count:
        pytest.skip(f"needs {count} devices, there are {len(devices)}")
    with pytest.MonkeyPatch.context() as patch:
        for scope in ("", "local_"):
            patch.setattr(jax, f"{scope}devices", lambda: devices)
            patch.setattr(jax, f"{scope}device_count", lambda: count)
        yield
