"""Large programs that a test compiles and runs once."""

from collections.abc import Callable
from typing import Any

import jax

from tests.resident import give_back_freed


def run_once(function: Callable, *arguments: Any) -> Any:
    """function(*arguments) on the host, in little memory.

    What was compiled before is dropped first, and what compiling this has freed is given back.
    Of so large a program the newer way to make loops takes less time, see `xla_flags`.
    """
    lowered = jax.jit(function).lower(*arguments)
    jax.clear_caches()
    compiled = lowered.compile(compiler_options={"xla_cpu_use_fusion_emitters": True})
    give_back_freed()
    return jax.device_get(compiled(*arguments))
