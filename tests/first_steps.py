"""The first steps of a training, on any devices; also a program, for other processes.

    python -m tests.first_steps DEVICES [HOST:PORT NUM_PROCESSES PROCESS_ID]

prints, as JSON, the metrics of every step by mapping.
"""

import functools
import json
import sys

import flax.linen as nn
import jax
import numpy as np
import optax

from pinet_jax.backbones.layers import BatchNorm, Conv
from pinet_jax.methods.pinet import network as pinet
from pinet_jax.runtime import devices as parallel
from pinet_jax.runtime import hosts
from pinet_jax.training import step as training
from tests import devices, tiny

KINDS = ("pmap", "shard_map")
STEPS = 3
IMAGES = 8  # a step, over all devices
LEARNING_RATE = 0.01


class SmallBackbone(nn.Module):
    """Two convolutions and batch normalisations: HRNet's operations, quickly compiled."""

    axis_name: str | None

    @nn.compact
    def __call__(self, images, train=False):
        x = images
        for i in range(2):
            x = nn.relu(BatchNorm(self.axis_name)(Conv(8, stride=2, name=f"conv{i}")(x), train))
        return x


def network(config):
    axis_name = parallel.AXIS if config.bn_sync else None
    return pinet.build(config).clone(backbone=SmallBackbone(axis_name))


def make_config(kind="pmap", bn_sync=True, accumulation=1):
    return tiny.config(
        **{
            "parallel": kind,
            "bn_sync": bn_sync,
            "model.graph_layers": 1,
            "train.accumulation": accumulation,
        }
    )


def optimizer():
    # Not Adam: it would blow the noise in gradients that are nothing up to whole steps.
    return optax.sgd(LEARNING_RATE)


@functools.cache
def fresh_state():
    variables = tiny.random_variables(network(make_config()))
    moments = optimizer().init(variables["params"])
    return training.TrainState(step=np.int32(0), opt_state=moments, **variables)


def share(batch):
    """This process's images."""
    size = IMAGES // jax.process_count()
    first = jax.process_index() * size
    return {name: x[first : first + size] for name, x in batch.items()}


def run(config, steps=STEPS):
    """The last state and every step's metrics, on all devices there are."""
    step = training.TrainStep(network(config), optimizer(), config)
    state = parallel.replicate(training.guarded(fresh_state()), config.parallel)
    history = []
    for i in range(steps):
        batch = parallel.shard_batch(share(tiny.batch(i, images=IMAGES)), config.parallel)
        state, metrics = step(state, batch)
        history.append(jax.device_get(metrics))
    return jax.tree.map(np.array, state.train), history


@functools.cache
def train(count, kind, bn_sync=True, accumulation=1):
    """`run` on `count` devices of this process; one step where statistics are not shared."""
    with devices.use(count):
        config = make_config(kind, bn_sync, accumulation)
        return run(config, STEPS if bn_sync and accumulation == 1 else 1)


def main(num_devices, coordinator=None, num_processes=None, process_id=None):
    jax.config.update("jax_num_cpu_devices", int(num_devices))
    if coordinator:
        join = int(num_processes), int(process_id)
        hosts.initialize(False, coordinator, *join, timeout=60)
    found = {}
    for kind in KINDS:
        found[kind] = [
            {name: float(value) for name, value in metrics.items()}
            for metrics in run(make_config(kind))[1]
        ]
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
