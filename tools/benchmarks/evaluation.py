"""The evaluation run, from files to results, at several batch sizes."""

import resource
import time
from collections.abc import Iterator

from ml_collections import ConfigDict

from input_pipeline.source import Source
from pinet_jax import methods
from pinet_jax.evaluation import loop
from pinet_jax.runtime.tables import aligned
from tools.benchmarks import crowds

BATCHES = (1, 8)


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """Every image of config.dataset.eval_split, predicted with random weights.

    The first pass compiles and is not counted.

    Raises:
        UserError: config.dataset.data_dir holds no such data.
    """
    images = Source(config).num_eval_images()
    variables = crowds.variables(methods.of(config).build(config))
    rows = [("batch", "images/s", "peak host MiB")]
    for size in BATCHES:
        config = config.copy_and_resolve_references()
        config.eval.batch_size = size
        seconds = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            loop.predict_split(config, variables, Source(config))
            seconds.append(time.perf_counter() - start)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            rows.append((str(size), f"{images / seconds[-1]:.2f}", f"{memory:.0f}"))
    title = (
        f"evaluation of {images} images of {Source(config).eval_name} at {config.eval.input_size}"
    )
    yield f"{title}\n{aligned(rows)}\n"
