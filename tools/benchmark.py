"""Measures the parts of PINet side by side on this machine.

    tools/benchmark.py SECTION... --config configs/NAME.py [--rounds 5] [--config.a.b=c ...]

Sections: targets, pipeline, train, predict, postprocess, eval, startup, torch, methods; or all.
Each prints tables of median times, of ratios between variants measured in turns within one run, of
the share of what a large matrix product reaches on the device (operations as XLA counts them),
and of the memory that a program takes. pipeline and eval need config.dataset.data_dir, torch
needs PyTorch.
"""

import importlib
import os
import pathlib
import platform
import sys

import jax
from absl import flags

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from pinet_jax import program
from pinet_jax.errors import UserError
from tools.benchmarks import timing

SECTIONS = {
    "targets": "targets",
    "pipeline": "pipeline",
    "train": "train",
    "predict": "predict",
    "postprocess": "postprocess",
    "eval": "evaluation",
    "startup": "startup",
    "torch": "beside_torch",
    "methods": "methods",
}
PINET_ONLY = ("postprocess", "torch")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Runs of every variant, of which the median counts.")


def main(arguments: list[str]) -> None:
    """Runs the program."""
    names = list(SECTIONS) if arguments[1:] == ["all"] else arguments[1:]
    unknown = [name for name in names if name not in SECTIONS]
    if unknown or not names:
        what = f"No section '{unknown[0]}'" if unknown else "No section"
        raise UserError(f"{what}: give some of {', '.join(SECTIONS)}, or all.")
    if ROUNDS.value < 1:
        raise UserError(f"--rounds is {ROUNDS.value}: give at least 1.")
    config = program.config_from_flags()
    other = [name for name in names if name in PINET_ONLY]
    if other and config.model.method not in ("pinet", "spm"):
        raise UserError(
            f"{other[0]} measures PINet, and config.model.method is '{config.model.method}'."
        )
    print(describe_device(config.dtype), flush=True)
    for name in names:
        section = importlib.import_module(f"tools.benchmarks.{SECTIONS[name]}")
        for table in section.tables(config, ROUNDS.value):
            print(table, flush=True)


def describe_device(dtype: str) -> str:
    """The hardware and what a large matrix product reaches on it."""
    devices = jax.devices()
    rate = timing.peak_rate(dtype) / timing.GIGA
    return (
        f"{len(devices)} x {devices[0].device_kind}, {os.cpu_count()} CPU cores "
        f"({platform.machine()}), JAX {jax.__version__}; "
        f"matrix product in {dtype}: {rate:,.0f} GFLOP/s\n"
    )


if __name__ == "__main__":
    program.run(main)
