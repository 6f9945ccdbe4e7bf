"""Repeats the step at which a training stopped because its loss was not finite.

    tools/rerun_step.py WORKDIR/nonfinite/STEP [--config.a.b=c ...]

Prints the step's metrics and names the parameters whose gradient is not finite. A field of
the config can be changed, to see whether that mends it. Exit code 1 if it does not. Run it
on as many devices as the training had: each normalises its own share of the batch.
"""

import functools
import pathlib
import sys

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from pinet_jax.weights import reading

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from pinet_jax import methods, program
from pinet_jax.config import config_from_json
from pinet_jax.data import HOST_KEYS
from pinet_jax.errors import UserError
from pinet_jax.runtime import devices, files
from pinet_jax.training import nonfinite
from pinet_jax.training import step as training
from pinet_jax.weights.reading import read_item


def main(arguments: list[str]) -> int:
    """Runs the program; its exit code."""
    if len(arguments) < 2 or arguments[1].startswith("--"):
        raise UserError("Give the folder WORKDIR/nonfinite/STEP that the training names.")
    folder = files.to_path(arguments[1])
    config = config_from_json(read_item(folder, "config"), folder)
    program.override(config, [arguments[0], *arguments[2:]])
    program.enable_compilation_cache(config)
    metrics, bad = rerun(folder, config)
    for name, value in metrics.items():
        print(f"{name:20} {float(value):.6g}")
    for name in bad:
        print(f"not finite: the gradient of {name}")
    return 0 if all(map(np.isfinite, metrics.values())) and not bad else 1


def rerun(folder: files.Path, config: ConfigDict) -> tuple[dict, list[str]]:
    """The metrics of the step, and the parameters whose gradient is not finite."""
    position = reading.read_position(folder)
    devices.check_batch_size(config.train.batch_size, config.train.accumulation)
    model = methods.of(config).build(config)
    steps_per_epoch = position["examples_per_epoch"] / config.train.batch_size
    optimizer = training.make_optimizer(training.learning_rate(config, steps_per_epoch))
    fresh = functools.partial(training.create_state, model, optimizer, config.seed)
    state = reading.load_state(folder, jax.eval_shape(fresh))
    batch = nonfinite.load_batch(folder)
    batch = {name: value for name, value in batch.items() if name not in HOST_KEYS}
    made_from = training.made_from(model, config, steps_per_epoch)
    step = training.TrainStep(model, optimizer, config, made_from)
    state = devices.replicate(state, config.parallel)
    found = jax.device_get(step.look(state, devices.shard_batch(batch, config.parallel)))
    leaves = traverse_util.flatten_dict(found.gradients, sep="/")
    bad = [name for name, leaf in leaves.items() if not np.isfinite(leaf).all()]
    return found.metrics, bad


if __name__ == "__main__":
    program.run(main, known_flags_only=True)
