"""Several processes that train or evaluate one model together.

Each has its own devices; all of them run the same program and must ask `gather`,
`any_process`, `wait_for_all` and every step over all devices in the same order. With one process
every function is the identity, so callers need no special case.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from pinet_jax.errors import UserError

Item = TypeVar("Item")


def initialize(
    auto: bool,
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    timeout: int,
) -> None:
    """Joins the other processes; comes before any use of a device.

    Args:
        auto: take what is not given from the environment: a TPU pod, SLURM, Open MPI or
            Kubernetes, as JAX finds them.
        coordinator_address: HOST:PORT of process 0. With none of these arguments this
            process stays alone.
        num_processes: of the run.
        process_id: of this one, from 0.
        timeout: seconds to wait for the others.

    Raises:
        UserError: arguments that name no run, or the others do not come.
    """
    given = (coordinator_address, num_processes, process_id)
    if not auto and given == (None, None, None):
        return
    _check(auto, coordinator_address, num_processes, process_id)

    def join() -> None:
        jax.distributed.initialize(
            *given,
            cluster_detection_method=None if auto else "deactivate",
            initialization_timeout=2 * timeout + 60,
        )

    try:
        finished = _finishes(join, timeout)
    except ValueError:
        raise UserError(
            "--multi_host: this is no TPU pod, SLURM, Open MPI or Kubernetes job; give "
            "--coordinator_address, --num_processes and --process_id instead."
        ) from None
    if not finished:
        where = coordinator_address or "named by the environment"
        raise UserError(
            f"The coordinator {where} did not bring all processes together within {timeout} s: "
            "start every process, and check that its host and port can be reached from here."
        )
    _meet()


def _meet() -> None:
    """A first exchange over all devices, while the processes are still in step.

    Setting up the connections has a short time limit, which the compilation of a large
    program would exceed on one process when others find it in their caches.
    """
    sum_over_devices = jax.pmap(lambda x: jax.lax.psum(x, "all"), axis_name="all")
    try:
        jax.block_until_ready(sum_over_devices(np.ones(jax.local_device_count(), np.float32)))
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # ValueError: of Gloo
        reason = str(error).splitlines()[0]
        raise UserError(
            f"The processes found each other, but their devices cannot exchange data ({reason}): "
            "check the network between the hosts."
        ) from None


def _finishes(function: Callable[[], None], timeout: float) -> bool:
    """Whether the function ends within `timeout` seconds; raises what it raises.

    JAX aborts the process at its own time limit, so that is never reached.
    """
    errors = []

    def target() -> None:
        try:
            function()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(timeout)
    if errors:
        raise errors[0]
    return not thread.is_alive()


def _check(
    auto: bool, coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """UserError unless the arguments name a run."""
    if not auto and None in (coordinator_address, num_processes, process_id):
        raise UserError(
            "--coordinator_address, --num_processes and --process_id go together: give all "
            "three, or --multi_host on a TPU pod or under SLURM."
        )
    if coordinator_address is not None:
        host, _, port = coordinator_address.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 2**16):
            raise UserError(f"--coordinator_address: '{coordinator_address}' is not HOST:PORT.")
    if num_processes is not None and num_processes < 1:
        raise UserError(f"--num_processes: {num_processes} is less than 1.")
    if process_id is not None and not 0 <= process_id < (num_processes or process_id + 1):
        raise UserError(
            f"--process_id: {process_id} is not from 0 to {(num_processes or 1) - 1}, "
            "one less than --num_processes."
        )


def leave(exit_code: int) -> None:
    """Ends this process after an error, at once if there are others.

    An orderly end would wait for them while they wait for this one; so their next
    exchange fails, or JAX notices within two minutes, and they end too.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def is_main() -> bool:
    """Whether this process writes the logs, the checkpoints and the pictures."""
    return jax.process_index() == 0


def gather(items: list[Item]) -> list[Item]:
    """The items of all processes, in the processes' order, on every process.

    Args:
        items: anything that JSON can hold; as many as each process likes.
    """
    if jax.process_count() == 1:
        return items
    text = np.frombuffer(json.dumps(items).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(text), np.int32))
    padded = np.pad(text, (0, lengths.max() - len(text)))
    texts = multihost_utils.process_allgather(padded)
    return [
        item
        for text, length in zip(texts, lengths, strict=True)
        for item in json.loads(text[:length].tobytes())
    ]


def wait_for_all(what: str) -> None:
    """Returns when every process has come here.

    Args:
        what: they wait for; the same words on all of them.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all of them must ask together."""
    return bool(multihost_utils.process_allgather(np.array(flag)).any())
