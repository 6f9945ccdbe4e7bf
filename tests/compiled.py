"""Large programs that a test compiles and runs once."""

from collections.abc import Callable
from typing import Any

import jax

from tests.resident import give_back_freed


def run_once(function: Callable, *arguments: Any) -> Any:
    """function(*arguments) on the host, in little memory.

    What was compiled before is dropped first, and what compiling this has freed is given back.
    """
    lowered = jax.jit(function).lower(*arguments)
    jax.clear_caches()
    compiled = lowered.compile()
    give_back_freed()
    return jax.device_get(compiled(*arguments))
