"""A PINet as small as can be that has every part; also a config file, for the programs."""

import os
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from configs import base
from pinet_jax.config import load_config
from pinet_jax.methods.variables import shapes

PATH = pathlib.Path(__file__).resolve()
# A file of released weights tells of a model of at least one module a stage.
RELEASABLE = {"model.modules": (1, 1, 1)}
# A backbone that is quickly traced and gives as many features as a long one.
SHORT = RELEASABLE | {"model.blocks": 1, "model.bottlenecks": 1}
SIZE = 64  # pixels of a training image's side and of a test image's short side


def get_config() -> ConfigDict:
    config = base.get_config()
    config.dtype = "float32"
    # Of the programs that tests start: conftest.py has one for all.
    config.compilation_cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")

    config.dataset.name = "synthcrowd_stream"
    config.dataset.max_persons = 3
    config.dataset.min_train_keypoints = 1
    config.dataset.num_workers = 2

    config.synthcrowd.image_size = SIZE
    config.synthcrowd.people = (0, 4)
    config.synthcrowd.height = (0.8, 1.1)
    config.synthcrowd.num_train = 16
    config.synthcrowd.num_val = 5

    config.model.width = 8
    config.model.stem_width = 16
    config.model.bottlenecks = 1
    config.model.modules = (1, 0, 0)  # four branches, of which two exchange what they found
    config.model.blocks = 1
    config.model.conv_init = "he"

    config.losses.samples_per_part = 20

    config.train.input_size = SIZE
    config.train.batch_size = 4
    config.train.epochs = 1.0
    config.train.log_every = 1

    config.eval.input_size = SIZE
    config.eval.batch_size = 2
    config.eval.max_peaks = 5
    return config


def config(**overrides: Any) -> ConfigDict:
    """The tiny config, locked; `overrides` are dotted fields, passed as **{"a.b": c}."""
    return load_config(str(PATH), overrides)


def random_variables(model: nn.Module, seed: int = 0) -> dict[str, Any]:
    """Variables that keep all activations alive, without compiling the initialisation."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = max(1, leaf.size // leaf.shape[-1])
        return rng.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes(model))


def batch(
    seed: int = 0, images: int = 4, persons: int = 3, keypoints: int = 17, size: int = SIZE
) -> dict[str, np.ndarray]:
    """The device part of a training batch: random pictures of crowds, the first without people."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(16, size - 16, (images, persons, 1, 2))
    xy = middle + rng.normal(0, 8, (images, persons, keypoints, 2))
    labels = rng.integers(0, 3, (images, persons, keypoints, 1))
    area = rng.uniform(1100, 4000, (images, persons))
    area[0] = 0
    corners = middle + 16.0 * np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
    return {
        "image": rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8),
        "keypoints": np.concatenate([xy, labels], axis=-1).astype(np.float32),
        "area": area.astype(np.float32),
        "annotation_area": area.astype(np.float32),
        "corners": corners.astype(np.float32),
        "region_mask": rng.random((images, size // 4, size // 4)) > 0.1,
    }
