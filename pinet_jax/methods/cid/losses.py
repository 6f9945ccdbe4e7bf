"""The training loss of a batch or of a part of one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from pinet_jax.data import AnyArray
from pinet_jax.methods.cid.targets import Instances, Targets, instance_heatmaps

_TINY = 1e-12  # beside a squared length; it has a gradient at 0


class Counts(NamedTuple):
    """What the losses of a batch are divided by; those of its parts add up to the whole's.

    Attributes:
        parts: number of equal parts, 1 each.
        points: pixels of everybody's heatmaps whose target is 1.
        instance_points: the same of the instances' own heatmaps.
        instances: number of them.
    """

    parts: Float[AnyArray, ""]
    points: Float[AnyArray, ""]
    instance_points: Float[AnyArray, ""]
    instances: Float[AnyArray, ""]


def focal_loss(
    predicted: Float[AnyArray, "*n"],
    target: Float[AnyArray, "*n"],
    mask: Bool[AnyArray, "..."],
    alpha: int,
    beta: int,
) -> Float[Array, ""]:
    """CornerNet's focal loss, summed, to be divided by the number of targets of 1.

    Args:
        predicted: scores, in (0, 1).
        target: in [0, 1].
        mask: pixels that count.
        alpha: exponent of what is still wrong.
        beta: exponent of the distance from a target of 1.
    """
    found = jnp.log(predicted) * (1 - predicted) ** alpha
    empty = jnp.log(1 - predicted) * predicted**alpha * (1 - target) ** beta
    return -jnp.sum(jnp.where(target == 1, found, empty) * mask)


def contrastive_loss(
    vectors: Float[AnyArray, "n f"],
    image: Int[AnyArray, " n"],
    valid: Bool[AnyArray, " n"],
    temperature: float,
) -> Float[Array, ""]:
    """How little instances of one image differ: cross-entropy of who is who, summed.

    Args:
        vectors: f of instances.
        image: that they are in.
        valid: instances that there are.
        temperature: what cosine similarities are divided by.
    """
    unit = vectors * jax.lax.rsqrt(jnp.square(vectors).sum(-1, keepdims=True) + _TINY)
    similarity = jnp.matmul(unit, unit.T, precision="highest") / temperature
    others = (image[:, None] == image) & valid & ~jnp.eye(len(image), dtype=bool)
    # -log softmax at the diagonal, without the difference of two large numbers.
    closer = jnp.exp(similarity - jnp.diagonal(similarity)[:, None])
    return jnp.sum(jnp.where(valid, jnp.log1p(jnp.sum(closer * others, 1)), 0))


def count_batch(model: nn.Module, targets: Targets, config: ConfigDict) -> Counts:
    """What the losses of a batch of these targets are divided by."""
    size = targets.region_mask.shape[1:]
    instances = targets.instances
    points = (targets.heatmaps == 1) & targets.region_mask[..., None]
    own = (instance_heatmaps(instances, size) == 1) & _counted(instances)
    numbers = (jnp.count_nonzero(x) for x in (points, own, instances.valid))
    return Counts(jnp.ones(()), *(number.astype(jnp.float32) for number in numbers))


def train_loss(
    model: nn.Module,
    params: Any,
    batch_stats: Any,
    images: Float[AnyArray, "b height width 3"],
    targets: Targets,
    config: ConfigDict,
    counts: Counts | None = None,
) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """Everybody's heatmaps + instances' own heatmaps + contrastive loss.

    Of a part of a batch the result is a share, such that the *mean* over the parts is
    that of the whole batch: of the loss, its gradients and its metrics.

    Args:
        model: of `network.build`.
        params: the model's parameters.
        batch_stats: the model's running statistics.
        images: normalised.
        targets: of `targets.targets_of`.
        config: the whole config.
        counts: the sum of `count_batch` over the parts of a batch of which this is
            one; None where this is the whole.

    Returns:
        The loss, and the pair of metrics (loss, heatmap_loss, instance_loss,
        contrastive_loss as they enter the loss, and num_instances) and updated running
        statistics.
    """
    settings = config.losses
    counts = counts or count_batch(model, targets, config)
    variables = {"params": params, "batch_stats": batch_stats}
    maps, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
    exponents = settings.focal_alpha, settings.focal_beta
    everybody = focal_loss(
        maps.heatmaps, targets.heatmaps, targets.region_mask[..., None], *exponents
    )
    instances = targets.instances
    vectors = _vectors(maps.features, instances)
    own = _own_loss(model, variables, maps.reduced, vectors, instances, exponents)
    apart = contrastive_loss(vectors, instances.image, instances.valid, settings.temperature)

    def share(numerator: Array, denominator: Array) -> Array:
        return numerator * counts.parts / jnp.maximum(denominator, 1)

    terms = {
        "heatmap_loss": share(everybody, counts.points),
        "instance_loss": settings.instance_weight * share(own, counts.instance_points),
        "contrastive_loss": settings.contrastive_weight * share(apart, counts.instances),
    }
    loss = sum(terms.values())
    number = instances.valid.sum(dtype=jnp.float32) * counts.parts
    return loss, ({"loss": loss, **terms, "num_instances": number}, updated["batch_stats"])


def _counted(instances: Instances) -> Bool[Array, "n 1 1 k"]:
    return (instances.labelled & instances.valid[:, None])[:, None, None]


def _vectors(features: Float[AnyArray, "b h w f"], instances: Instances) -> Float[Array, "n f"]:
    """f of each instance, in float32."""
    x, y = instances.centers[:, 0], instances.centers[:, 1]
    return features[instances.image, y, x].astype(jnp.float32)


def _own_loss(
    model: nn.Module,
    variables: Any,
    reduced: Float[AnyArray, "b h w c"],
    vectors: Float[AnyArray, "n f"],
    instances: Instances,
    exponents: tuple[int, int],
) -> Float[Array, ""]:
    """The focal loss of all instances' own heatmaps, summed."""
    heatmaps = model.apply(
        variables, reduced[instances.image], vectors, instances.centers, method="instances"
    )
    wanted = instance_heatmaps(instances, reduced.shape[1:3])
    return focal_loss(heatmaps, wanted, _counted(instances), *exponents)
