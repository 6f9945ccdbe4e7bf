"""The training loss of a batch, put together as the training step does."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array
from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.backbones.hrnet import normalise
from pinet_jax.data import Batch


def whole_loss(
    model: nn.Module,
    params: Any,
    batch_stats: Any,
    batch: Batch,
    config: ConfigDict,
    counts: Any = None,
) -> tuple[Array, tuple[dict[str, Array], Any]]:
    """Loss, metrics and new statistics of a batch, or of a part where `counts` are the whole's."""
    method = methods.of(config)
    targets, pixels = method.targets_of(model, batch, config), normalise(batch["image"])
    return method.train_loss(model, params, batch_stats, pixels, targets, config, counts)
