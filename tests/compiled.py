"""Large programs that a test compiles and runs once."""

from collections.abc import Callable
from typing import Any

import jax

from tests import xla_flags
from tests.resident import give_back_freed


def run_once(function: Callable, *arguments: Any, many_loops: bool = False) -> Any:
    """function(*arguments) on the host, in little memory.

    What was compiled before is dropped first, and what compiling this has freed is given back.
    With `many_loops` it is compiled by what `xla_flags` turns off: for each loop that XLA makes
    in its older way it goes through the whole program.
    """
    lowered = jax.jit(function).lower(*arguments)
    jax.clear_caches()
    compiled = lowered.compile(compiler_options={xla_flags.LOOPS: True} if many_loops else {})
    give_back_freed()
    return jax.device_get(compiled(*arguments))
