"""Flags of XLA that make it compile quickly, for this process and the programs it starts."""

import os
import subprocess
import sys

LOOPS = "xla_cpu_use_fusion_emitters"
QUICK = (
    # Two thirds of a small program's compilation go into XLA's newer way to make loops of fusions,
    f"--{LOOPS}=false "
    # a third of the rest into dividing it among threads.
    "--xla_cpu_parallel_codegen_split_count=1"
)


def compile_quickly() -> None:
    """Sets them where this XLA has them: it ends a process that gives it an unknown one."""
    given = os.environ.get("XLA_FLAGS", "")
    if QUICK in given:  # by the process that started this one
        return
    wanted = f"{given} {QUICK}".strip()
    if _are_known(wanted):
        os.environ["XLA_FLAGS"] = wanted


def _are_known(flags: str) -> bool:
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return not subprocess.run(
        command, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True
    ).returncode
