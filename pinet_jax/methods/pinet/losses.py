"""The training loss (PINet eqs. 5, 7, 8, 10, 12) of a batch or of a part of one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from pinet_jax.data import AnyArray, Batch
from pinet_jax.methods.pinet.ppg import Maps
from pinet_jax.methods.pinet.refinement import join_parts
from pinet_jax.methods.pinet.targets import Targets, is_released, render_targets

Ratio = tuple[Float[Array, ""], Float[Array, ""]]


class Counts(NamedTuple):
    """What the losses of a batch are divided by; those of its parts add up to the whole's.

    Attributes:
        parts: number of equal parts, 1 each.
        offset: scalars of the offset maps with a weight, x and y each.
        refinement: the same at the sampled locations.
    """

    parts: Float[Array, ""]
    offset: Float[Array, ""]
    refinement: Float[Array, ""]


def heatmap_loss(
    predicted: Float[AnyArray, "b h w n"],
    target: Float[AnyArray, "b h w n"],
    mask: Float[AnyArray, "b h w n"],
) -> Float[Array, ""]:
    """Mean of the masked squared error over all maps (PINet eq. 7)."""
    return jnp.mean(mask * (predicted - target) ** 2)


def smooth_l1(x: Float[AnyArray, "..."], beta: float) -> Float[Array, "..."]:
    """x^2 / (2 beta) where |x| < beta, else |x| - beta / 2; beta is positive."""
    return optax.huber_loss(x, delta=beta) / beta


def offset_loss(
    predicted: Float[AnyArray, "*batch k 2"],
    target: Float[AnyArray, "*batch k 2"],
    weights: Float[AnyArray, "*batch k"],
    beta: float,
) -> Ratio:
    """Weighted smooth-L1 of offsets in heatmap pixels (PINet eqs. 8, 10).

    Returns:
        Numerator and denominator of the loss. The denominator counts the scalars
        with a weight, x and y each; it may be 0, and then so is the numerator.
    """
    error = smooth_l1(predicted - target, beta)
    of_both = error[..., 0] + error[..., 1]  # on a CPU XLA sums a short last axis slowly
    return jnp.sum(of_both * weights), _count(weights)


def _count(weights: Float[AnyArray, "*batch k"]) -> Float[Array, ""]:
    return 2.0 * jnp.count_nonzero(weights)


def sample_locations(
    targets: Targets, samples_per_part: int, convention: str
) -> tuple[Int[Array, "b s n"], Bool[Array, "b s n"]]:
    """The locations whose poses train the refinement: the best owned pixels of each part.

    Best is the largest part-heatmap target (PINet supplement, section 2), in the
    released convention times the offset weight, so that small persons come first.

    Returns:
        Flat indices y * width + x by falling score, and which of them are owned
        pixels; a part with too few of those is filled up with invalid ones.
    """
    weight = targets.offset_weights.max(-1)
    score = targets.part_heatmaps * (weight if is_released(convention) else 1)
    score = jnp.where(weight > 0, score, -1)
    score = score.reshape(score.shape[0], -1, score.shape[-1]).swapaxes(1, 2)
    count = min(samples_per_part, score.shape[-1])
    best, index = jax.lax.top_k(score, count)
    fill = ((0, 0), (0, 0), (0, samples_per_part - count))
    return jnp.pad(index, fill), jnp.pad(best >= 0, fill)


def gather_locations(
    maps: Float[AnyArray, "b h w s *rest"], index: Int[AnyArray, "b s n"]
) -> Float[Array, "b s n *rest"]:
    """Each part's own channel of `maps` at that part's flat locations."""
    parts = jnp.arange(index.shape[1])[:, None]
    flat = maps.reshape(maps.shape[0], -1, *maps.shape[3:])
    return jax.vmap(lambda flat, index: flat[index, parts])(flat, index)


def refinement_loss(
    refined_offset: Float[AnyArray, "b s n k 2"],
    targets: Targets,
    index: Int[AnyArray, "b s n"],
    valid: Bool[AnyArray, "b s n"],
    beta: float,
) -> Ratio:
    """`offset_loss` of refined offsets at the valid sampled locations (PINet eq. 10)."""
    target = gather_locations(targets.offsets, index)
    return offset_loss(refined_offset, target, _sampled_weights(targets, index, valid), beta)


def _sampled_weights(
    targets: Targets, index: Int[AnyArray, "b s n"], valid: Bool[AnyArray, "b s n"]
) -> Float[Array, "b s n k"]:
    return gather_locations(targets.offset_weights, index) * valid[..., None]


def count_batch(model: nn.Module, targets: Targets, config: ConfigDict) -> Counts:
    """What the losses of a batch of these targets are divided by."""
    refinement = jnp.zeros(())
    if model.refinement:
        refinement = _count(_sampled_weights(targets, *_samples(targets, config)))
    return Counts(jnp.ones(()), _count(targets.offset_weights), refinement)


def train_loss(
    model: nn.Module,
    params: Any,
    batch_stats: Any,
    images: Float[Array, "b height width 3"],
    targets: Targets,
    config: ConfigDict,
    counts: Counts | None = None,
) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """Heatmap + weighted offset + weighted refinement loss (PINet eqs. 5, 12).

    Of a part of a batch the result is a share, such that the *mean* over the parts is
    that of the whole batch: of the loss, its gradients and its metrics. The ratios of
    the offset losses have the whole batch's denominators, which depend on nothing that
    is trained, so no sum over parts is differentiated.

    Args:
        model: of `pinet_jax.methods.pinet.network.build`.
        params: the model's parameters.
        batch_stats: the model's running statistics.
        images: normalised.
        targets: of the images' persons, as of `targets_of`.
        config: the whole config.
        counts: the sum of `count_batch` over the parts of a batch of which this is
            one; None where this is the whole.

    Returns:
        The loss, and the pair of metrics (loss, heatmap_loss, offset_loss,
        refinement_loss as they enter the loss, and num_samples, the refinement's
        locations) and updated running statistics.
    """
    settings, beta = config.losses, config.losses.smooth_l1_beta
    maps, updated = model.apply(
        {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
    )
    offset = offset_loss(maps.offsets, targets.offsets, targets.offset_weights, beta)
    refinement = jnp.zeros(()), jnp.zeros(())
    num_samples = jnp.zeros(())
    if model.refinement:
        index, valid = _samples(targets, config)
        refined, updated = _refined_offsets(model, params, updated, maps, index, valid)
        refinement = refinement_loss(refined, targets, index, valid, beta)
        num_samples = valid.sum(dtype=jnp.float32)
    counts = counts or Counts(jnp.ones(()), offset[1], refinement[1])
    terms = {
        "heatmap_loss": _all_heatmaps_loss(maps, targets),
        "offset_loss": settings.offset_weight * _share(offset[0], counts.offset, counts.parts),
        "refinement_loss": settings.refinement_weight
        * _share(refinement[0], counts.refinement, counts.parts),
    }
    loss = sum(terms.values())
    metrics = {"loss": loss, **terms, "num_samples": num_samples * counts.parts}
    return loss, (metrics, updated["batch_stats"])


def targets_of(model: nn.Module, batch: Batch, config: ConfigDict) -> Targets:
    """The targets of a batch as pinet_jax/data.py defines one."""
    persons = batch["keypoints"], batch["area"], batch["region_mask"]
    return render_targets(*persons, model.parts, config.targets)


def _samples(
    targets: Targets, config: ConfigDict
) -> tuple[Int[Array, "b s n"], Bool[Array, "b s n"]]:
    return sample_locations(targets, config.losses.samples_per_part, config.targets.convention)


def _share(
    numerator: Float[Array, ""], denominator: Float[Array, ""], parts: Float[Array, ""]
) -> Float[Array, ""]:
    """A part's share of a ratio: their mean over the parts is the ratio, or 0 / 0 = 0."""
    return numerator * parts / jnp.maximum(denominator, 1)


def _all_heatmaps_loss(maps: Maps, targets: Targets) -> Float[Array, ""]:
    """The mean over score and part maps together, every pixel of either counting once."""

    def joined(keypoint_maps: Array, part_maps: Array) -> Array:
        return jnp.concatenate([keypoint_maps, part_maps], axis=-1)

    return heatmap_loss(
        joined(maps.keypoint_heatmaps, maps.part_heatmaps),
        joined(targets.keypoint_heatmaps, targets.part_heatmaps),
        joined(targets.keypoint_mask, targets.part_mask),
    )


def _refined_offsets(
    model: nn.Module,
    params: Any,
    updated: Any,
    maps: Maps,
    index: Int[Array, "b s n"],
    valid: Bool[Array, "b s n"],
) -> tuple[Float[Array, "b s n k 2"], Any]:
    """Offsets plus the refinement's delta, and the statistics after both passes.

    The features carry gradient to the backbone; the coordinates they are read at
    and the offsets that are refined do not.
    """
    width = maps.features.shape[2]
    centers = jnp.stack([index % width, index // width], axis=-1)
    offsets = gather_locations(jax.lax.stop_gradient(maps.offsets), index)
    poses = centers[..., None, :] - offsets

    delta, updated = model.apply(
        {"params": params, **updated},
        maps.features,
        join_parts(poses),
        join_parts(centers),
        join_parts(valid),
        train=True,
        method="refine",
        mutable=["batch_stats"],
    )
    return offsets + delta.reshape(offsets.shape), updated
