"""Mapping a per-device step over the devices of all processes.

A step is written for one device, in SPMD style: `step(state, batch)` with the
named axis AXIS for its reductions, the same state on every device, a share of the
batch on each. It must return the same on every device.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pinet_jax.errors import UserError

AXIS = "devices"

State = Any
Batch = Mapping[str, jax.Array | np.ndarray]
Step = Callable[[State, Batch], Any]


def map_step(step: Step, kind: str) -> Step:
    """The step over all devices: of one replicated state, with one replicated result.

    Args:
        step: per-device step, see the module's docstring.
        kind: "pmap", or "shard_map" (jax.jit of jax.shard_map).

    Returns:
        A function of a state made by `replicate` and of a batch made by `shard_batch`.
    """
    if kind == "pmap":
        return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None)
    shared, split = PartitionSpec(), PartitionSpec(AXIS)
    # check_vma off: replication is ours to keep, and with it on the gradients of
    # replicated parameters arrive already summed over the axis.
    mapped = jax.shard_map(
        step, mesh=_mesh(), in_specs=(shared, split), out_specs=shared, check_vma=False
    )
    return jax.jit(mapped)


def jit_replicated(function: Callable[..., State], kind: str) -> Callable[..., State]:
    """The function of a replicated state, which is donated, and of other replicated arrays.

    Args:
        function: the same on every device, from the state to the next one.
        kind: as of `map_step`.
    """
    return jax.jit(function, donate_argnums=(0,), out_shardings=_replicated(kind))


def replicate(state: State, kind: str) -> State:
    """The state on every device of every process, laid out as `jit_replicated` returns it.

    Without this the second step would meet another layout and compile again.
    """
    return jax.make_array_from_process_local_data(_replicated(kind), state)


def shard_batch(batch: Batch, kind: str) -> dict[str, jax.Array]:
    """The batch laid out for `map_step(..., kind)`: a share of each array a device.

    Args:
        batch: this process's share of it.
        kind: as of `map_step`.
    """
    split = PartitionSpec(AXIS)
    if kind == "pmap":  # which wants what this process has, by device
        devices = jax.local_device_count()
        batch = {key: x.reshape(devices, -1, *x.shape[1:]) for key, x in batch.items()}
        return jax.device_put(batch, NamedSharding(local_mesh(), split))
    return jax.make_array_from_process_local_data(NamedSharding(_mesh(), split), dict(batch))


def check_batch_size(batch_size: int, accumulation: int) -> None:
    """UserError unless the global batch divides over the devices, and their parts, evenly.

    Args:
        batch_size: config.train.batch_size.
        accumulation: config.train.accumulation.
    """
    devices = jax.device_count()
    if accumulation < 1:
        raise UserError(f"config.train.accumulation is {accumulation}: give at least 1.")
    shares = devices * accumulation
    if batch_size % shares:
        below = batch_size // shares * shares
        nearest = " or ".join(str(n) for n in (below, below + shares) if n)
        parts = f" of {accumulation} parts each (config.train.accumulation)"
        raise UserError(
            f"config.train.batch_size: {batch_size} images do not share out over "
            f"{devices} devices{parts if accumulation > 1 else ''}; use {nearest}."
        )


def at_once(count: int) -> int:
    """How many of `count` things a device computes at a time: a CPU's cache holds but one."""
    return 1 if jax.default_backend() == "cpu" else count


def map_at_once(function: Callable[..., Any], *batch: Any) -> Any:
    """function(*batch), on one example after the other where that is faster and saves memory.

    Args:
        function: of trees of arrays with a leading axis of examples, which are independent.
        batch: such trees.
    """
    if at_once(len(jax.tree.leaves(batch)[0])) > 1:
        return function(*batch)

    def one(example: tuple) -> Any:
        alone = jax.tree.map(lambda x: x[None], example)
        return jax.tree.map(lambda x: x[0], function(*alone))

    return jax.lax.map(one, batch)


def local_mesh() -> Mesh:
    """The devices of this process."""
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def _replicated(kind: str) -> NamedSharding:
    """On all devices that a process's own arrays are on: pmap's are of this process alone."""
    return NamedSharding(local_mesh() if kind == "pmap" else _mesh(), PartitionSpec())


def _mesh() -> Mesh:
    """All devices, those of a process side by side, in the order of jax.pmap."""
    devices = sorted(jax.devices(), key=lambda device: device.process_index)
    return Mesh(np.array(devices), (AXIS,))
