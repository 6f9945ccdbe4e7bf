"""The state that a run starts from: fresh, of other weights, or where it was."""

import sys

from flax import traverse_util
from ml_collections import ConfigDict

from pinet_jax.errors import UserError
from pinet_jax.runtime import files, hosts
from pinet_jax.training import nonfinite
from pinet_jax.training.step import TrainState, create_state, state_shapes
from pinet_jax.weights import checkpoints, reading


def first_state(
    config: ConfigDict, saved: checkpoints.Checkpoints, model, optimizer, num_examples: int
) -> TrainState:
    """That of the newest readable checkpoint if there is one, else a fresh one."""
    if saved.latest_step() is None:
        state = create_state(model, optimizer, config.seed)
        return load_initial(state, config) if config.train.init_from else state
    state = saved.restore(state_shapes(model, optimizer))
    step = int(state.step)
    check_position(saved.position(step), position(config, num_examples, step), saved.workdir)
    if hosts.is_main():
        print(f"resuming at step {step}", flush=True)
        report = nonfinite.earlier(saved.workdir, step)
        if report is not None:
            print(
                f"an earlier start was not finite in step {report.name}, see '{report}': "
                "with the same config it will be so again",
                file=sys.stderr,
            )
    return state


def position(config: ConfigDict, num_examples: int, step: int) -> dict[str, int]:
    """The place in the data after `step`, and all that it depends on."""
    return {
        "seed": config.seed,
        "batch_size": config.train.batch_size,
        "examples_per_epoch": num_examples,
        "examples_seen": step * config.train.batch_size,
    }


def check_position(saved: dict[str, int], wanted: dict[str, int], workdir: files.Path) -> None:
    """UserError unless the data goes on where the checkpoint left it.

    The examples of a step follow from its number, the seed, the global batch size and the
    number of training images; so does the learning rate. A change would repeat some
    images, leave others out and jump in the schedule.
    """
    fields = {"seed": "config.seed", "batch_size": "config.train.batch_size"}
    for name, value in saved.items():
        if value != wanted[name]:
            field = fields.get(name, "the number of training images")
            raise UserError(
                f"The run in '{workdir}' cannot go on: {field} was {saved[name]} and is "
                f"{wanted[name]}; set it back, or start another workdir from its weights with "
                f"--config.train.init_from={workdir}."
            )


def load_initial(state: TrainState, config: ConfigDict) -> TrainState:
    """A fresh `state` with the weights of config.train.init_from; step and moments stay fresh.

    That is a checkpoint or a released file, of the whole model or of its backbone alone.

    Raises:
        UserError: there is none, or it is of another model.
    """
    path = config.train.init_from
    variables = reading.load_newest(path, config)[2]
    variables = {kind: variables[kind] for kind in reading.VARIABLES}  # without a scoring net
    fresh = {"params": dict(state.params), "batch_stats": dict(state.batch_stats)}
    parts = ["backbone"] if set(variables["params"]) == {"backbone"} else list(fresh["params"])
    wanted = {kind: {p: tree[p] for p in parts if p in tree} for kind, tree in fresh.items()}
    reading.check_same(
        traverse_util.flatten_dict(variables),
        traverse_util.flatten_dict(wanted),
        path,
        "set config.train.init_from to one of this model, or of its backbone alone",
    )
    return state.replace(**{kind: tree | variables[kind] for kind, tree in fresh.items()})
