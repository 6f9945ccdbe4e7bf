"""Measuring variants of one piece of work side by side."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from pinet_jax.runtime import memory, tables

PEAK_SIDE = {"cpu": 2048}  # of the matrices of `peak_rate`
PEAK_SIDE_ELSEWHERE = 8192
PEAK_RUNS = 5
GIGA, MEBI = 1e9, 2**20


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to do some work.

    Attributes:
        name: as the table shows it.
        run: does the work and returns when it is done.
        items: images in a run.
        flops: of a run as XLA counts them, None where no program was compiled.
        memory: bytes of a run's arguments, results and temporaries on the device, or None.
    """

    name: str
    run: Callable[[], Any]
    items: int = 1
    flops: float | None = None
    memory: int | None = None


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of each run of a variant."""

    variant: Variant
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


def program(
    name: str,
    function: Callable,
    *arguments: Any,
    items: int = 1,
    without_loops: Callable | None = None,
) -> Variant:
    """`function` of the arguments as one compiled program, with XLA's count of its work.

    XLA counts what a loop repeats once: `without_loops` does the same work without.
    """
    arguments = jax.device_put(arguments)
    lowered = jax.jit(function).lower(*arguments)
    counted = jax.jit(without_loops).lower(*arguments) if without_loops else lowered
    compiled = lowered.compile()
    memory.fill_holes()  # as after the first run of what is compiled in earnest
    return Variant(
        name,
        lambda: jax.block_until_ready(compiled(*arguments)),
        items,
        flops=flops_of(counted),
        memory=memory_of(compiled),
    )


def flops_of(program: jax.stages.Lowered | jax.stages.Compiled) -> float | None:
    """Floating-point operations of a program, where XLA counts them."""
    cost = program.cost_analysis()
    return cost["flops"] if cost and "flops" in cost else None


def memory_of(compiled: jax.stages.Compiled) -> int | None:
    """Bytes of a compiled program's arguments, results and temporaries together."""
    stats = compiled.memory_analysis()
    if stats is None:
        return None
    together = stats.argument_size_in_bytes + stats.output_size_in_bytes
    return together + stats.temp_size_in_bytes - stats.alias_size_in_bytes


def measure(variants: Sequence[Variant], rounds: int) -> list[Timing]:
    """Runs the variants in turns, so that what else the machine does meets all of them.

    Each is run once before, which is not counted.
    """
    for variant in variants:
        variant.run()
    seconds = [[] for _ in variants]
    for _ in range(rounds):
        for variant, taken in zip(variants, seconds, strict=True):
            start = time.perf_counter()
            variant.run()
            taken.append(time.perf_counter() - start)
    return [Timing(v, tuple(s)) for v, s in zip(variants, seconds, strict=True)]


@functools.cache
def peak_rate(dtype: str) -> float:
    """Operations a second of a large matrix product: what this device can do at best."""
    side = PEAK_SIDE.get(jax.default_backend(), PEAK_SIDE_ELSEWHERE)
    matrix = jnp.ones((side, side), dtype)
    product = program("", lambda a: a @ a, matrix)
    return 2 * side**3 / min(measure([product], PEAK_RUNS)[0].seconds)


def table(title: str, timings: Sequence[Timing], dtype: str, first: str = "first") -> str:
    """The timings for people to read.

    Args:
        title: says the size of the work.
        timings: the first is what the ratios refer to.
        dtype: of the matrix product that the shares of the peak refer to.
        first: the ratios' heading.
    """
    heads = ("", "ms", "ms/image", f"x {first}", "GFLOP", "% of peak", "MiB")
    rows = [_row(timing, timings[0], dtype) for timing in timings]
    return f"{title}\n{tables.aligned([heads, *rows])}\n"


def _row(timing: Timing, reference: Timing, dtype: str) -> tuple[str, ...]:
    variant, seconds = timing.variant, timing.median
    flops = variant.flops
    return (
        variant.name,
        _digits(1000 * seconds),
        _digits(1000 * seconds / variant.items),
        f"{seconds / reference.median:.3f}",
        "-" if flops is None else _digits(flops / GIGA),
        "-" if flops is None else f"{100 * flops / seconds / peak_rate(dtype):.1f}",
        "-" if variant.memory is None else f"{variant.memory / MEBI:.0f}",
    )


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
