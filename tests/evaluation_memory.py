"""Whether the host memory of an evaluation grows with the images.

    python -m tests.evaluation_memory [IMAGES]

Predicts synthetic images with the tiny model, batch after batch, and prints the resident
memory of the process along the way, and its peak in the first and in the second half. Exit
code 1 if the peak of the second half is more than 5 % above that of the first.
"""

import os
import sys
from collections.abc import Iterator

os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np

from pinet_jax.data import EvalBatch
from pinet_jax.evaluation import loop
from pinet_jax.methods.pinet import network
from tests import tiny
from tests.resident import resident

WARM_UP = 20  # batches until caches and buffers are filled
ALLOWED = 1.05
BATCH = 4


def resident_of_batches(images: int) -> list[int]:
    """Bytes of resident memory before each batch."""
    config = tiny.config(**{"eval.batch_size": BATCH})
    found = []

    class Noise:
        def num_eval_images(self) -> int:
            return images

        def eval_batches(self) -> Iterator[EvalBatch]:
            rng = np.random.default_rng(0)
            for first in range(0, images, BATCH):
                found.append(resident())
                yield EvalBatch(
                    images=(rng.integers(0, 256, (BATCH, tiny.SIZE, tiny.SIZE, 3), np.uint8),),
                    to_image=np.tile(np.eye(2, 3, dtype=np.float32), (BATCH, 1, 1)),
                    image_id=np.arange(first, first + BATCH),
                    valid=np.ones(BATCH, bool),
                )

    variables = tiny.random_variables(network.build(config))
    results = loop.predict_split(config, variables, Noise())
    print(f"{len(results)} people in {images} images")
    return found


def main() -> int:
    found = resident_of_batches(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
    count = len(found)
    for batch in range(WARM_UP, count, max(1, (count - WARM_UP) // 9)):
        print(f"image {BATCH * batch:5}  {found[batch] / 2**20:7.1f} MiB")
    middle = (WARM_UP + count) // 2
    first, second = max(found[WARM_UP:middle]), max(found[middle:])
    print(f"peak of images {BATCH * WARM_UP} to {BATCH * middle}: {first / 2**20:.1f} MiB")
    print(f"peak of images {BATCH * middle} to {BATCH * count}: {second / 2**20:.1f} MiB")
    return 0 if second <= ALLOWED * first else 1


if __name__ == "__main__":
    sys.exit(main())
