"""Large programs that a test compiles and runs once."""

from collections.abc import Callable
from typing import Any

import jax

from tests.resident import give_back_freed


def run_once(function: Callable, *arguments: Any) -> Any:
    """function(*arguments) on the host; the memory that compiling it has freed is given back."""
    compiled = jax.jit(function).lower(*arguments).compile()
    give_back_freed()
    return jax.device_get(compiled(*arguments))
