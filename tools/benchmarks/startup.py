"""Fresh weights, tracing and compiling: what a first start costs, and one with a warm cache."""

import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.inference.predict import predict
from pinet_jax.runtime import devices, memory, programs
from pinet_jax.runtime.programs import Program
from pinet_jax.runtime.tables import aligned
from pinet_jax.training import step as training
from tools.benchmarks import crowds, elsewhere


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """Seconds of a first start and of `rounds` more, which find what it has kept."""
    rows = [("", "first start s", "again s", "kept MB")]
    for prepare in (_fresh_state, _train_step, _prediction):
        with tempfile.TemporaryDirectory() as folder:
            first, *later = (_start(prepare, config, folder) for _ in range(1 + rounds))
            kept = sum(path.stat().st_size for path in pathlib.Path(folder).iterdir())
        name = prepare.__name__.strip("_").replace("_", " ")
        again = statistics.median(later)
        rows.append((name, f"{first:.1f}", f"{again:.1f}", f"{kept / 1e6:.0f}"))
    yield f"start-up, width {config.model.width}, {config.dtype}\n{aligned(rows)}\n"


def _start(prepare: Callable, config: ConfigDict, folder: str) -> float:
    """Seconds until the state or the program is there, in a process of its own."""
    with elsewhere.process() as there:
        return there.submit(_seconds, prepare, config, folder).result()


def _seconds(prepare: Callable, config: ConfigDict, folder: str) -> float:
    memory.collect_rarely()
    programs.keep_in(folder)
    ready = prepare(config)
    start = time.perf_counter()
    ready()
    return time.perf_counter() - start


def _fresh_state(config: ConfigDict) -> Callable[[], None]:
    model = methods.of(config).build(config)
    optimizer = training.make_optimizer(config.train.learning_rate)
    return lambda: training.create_state(model, optimizer, config.seed)


def _train_step(config: ConfigDict) -> Callable[[], None]:
    model = methods.of(config).build(config)
    optimizer = training.make_optimizer(lambda count: config.train.learning_rate)
    variables = crowds.variables(model)
    state = training.TrainState(
        step=np.zeros((), np.int32), opt_state=optimizer.init(variables["params"]), **variables
    )
    size, images = config.train.input_size, config.train.batch_size
    keypoints = skeletons.of(config).num_keypoints
    batch = crowds.batch(np.random.default_rng(0), images, 1, keypoints, size, HEATMAP_STRIDE)
    state = devices.replicate(training.guarded(state), config.parallel)
    batch = devices.shard_batch(batch, config.parallel)
    made_from = training.MadeFrom("measuring", "updating")
    step = training.TrainStep(model, optimizer, config, made_from)
    return lambda: step.prepare(state, batch)


def _prediction(config: ConfigDict) -> Callable[[], None]:
    model = methods.of(config).build(config)
    size = config.eval.input_size
    image = np.zeros((1, size, size, 3), np.uint8)
    to_image = np.zeros((1, 2, 3), np.float32)

    def run(variables, images, to_image):
        return predict(model, variables, images, to_image, config)

    program = Program("predict", jax.jit(run), made_from="this benchmark")
    arguments = crowds.variables(model), (image,) * len(config.eval.scales), to_image
    return lambda: program.prepare(*arguments)
