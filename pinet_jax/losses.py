"""The training loss (PINet eqs. 5, 7, 8, 10, 12) of one device's share of a batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from pinet_jax.models.ppg import Maps
from pinet_jax.preprocess import normalise
from pinet_jax.targets import Targets, is_released, render_targets

Ratio = tuple[Float[Array, ""], Float[Array, ""]]


def heatmap_loss(
    predicted: Float[Array, "b h w n"],
    target: Float[Array, "b h w n"],
    mask: Float[Array, "b h w n"],
) -> Float[Array, ""]:
    """Mean of the masked squared error over all maps (PINet eq. 7)."""
    return jnp.mean(mask * (predicted - target) ** 2)


def smooth_l1(x: Float[Array, "..."], beta: float) -> Float[Array, "..."]:
    """x^2 / (2 beta) where |x| < beta, else |x| - beta / 2; beta is positive."""
    magnitude = jnp.abs(x)
    return jnp.where(magnitude < beta, x**2 / (2 * beta), magnitude - beta / 2)


def offset_loss(
    predicted: Float[Array, "*batch k 2"],
    target: Float[Array, "*batch k 2"],
    weights: Float[Array, "*batch k"],
    beta: float,
) -> Ratio:
    """Weighted smooth-L1 of offsets in heatmap pixels (PINet eqs. 8, 10).

    Returns:
        Numerator and denominator of the loss. The denominator counts the scalars
        with a weight, x and y each; it may be 0, and then so is the numerator.
    """
    error = smooth_l1(predicted - target, beta)
    return jnp.sum(error * weights[..., None]), 2.0 * jnp.count_nonzero(weights)


def sample_locations(
    targets: Targets, samples_per_part: int, convention: str
) -> tuple[Int[Array, "b s n"], Bool[Array, "b s n"]]:
    """The locations whose poses train the refinement: the best owned pixels of each part.

    Best is the largest part-heatmap target (PINet supplement, section 2), in the
    released convention times the offset weight, so that small persons come first.

    Returns:
        Flat indices y * width + x by falling score, and which of them are owned
        pixels; a part with too few of those is filled up with invalid ones.

    Raises:
        UserError: unknown convention.
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
    maps: Float[Array, "b h w s *rest"], index: Int[Array, "b s n"]
) -> Float[Array, "b s n *rest"]:
    """Each part's own channel of `maps` at that part's flat locations."""
    parts = jnp.arange(index.shape[1])[:, None]
    flat = maps.reshape(maps.shape[0], -1, *maps.shape[3:])
    return jax.vmap(lambda flat, index: flat[index, parts])(flat, index)


def refinement_loss(
    refined_offset: Float[Array, "b s n k 2"],
    targets: Targets,
    index: Int[Array, "b s n"],
    valid: Bool[Array, "b s n"],
    beta: float,
) -> Ratio:
    """`offset_loss` of refined offsets at the valid sampled locations (PINet eq. 10)."""
    target = gather_locations(targets.offsets, index)
    weights = gather_locations(targets.offset_weights, index) * valid[..., None]
    return offset_loss(refined_offset, target, weights, beta)


def compute_loss(
    model: nn.Module,
    params: Any,
    batch_stats: Any,
    batch: dict[str, Array],
    config: ConfigDict,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """The whole training loss of a batch, from padded persons and uint8 images.

    Args:
        model: of `pinet_jax.models.pinet.build`.
        params: the model's parameters.
        batch_stats: the model's running statistics.
        batch: image uint8 [b, height, width, 3]; keypoints [b, p, k, 3] and area
            [b, p] in input pixels; region_mask bool [b, height / 4, width / 4].
        config: the whole config.
        axis_name: of the device axis, if the batch is spread over one.

    Returns:
        As `train_loss`.
    """
    images = normalise(batch["image"])
    targets = render_targets(
        batch["keypoints"], batch["area"], batch["region_mask"], model.parts, config.targets
    )
    return train_loss(model, params, batch_stats, images, targets, config, axis_name)


def train_loss(
    model: nn.Module,
    params: Any,
    batch_stats: Any,
    images: Float[Array, "b height width 3"],
    targets: Targets,
    config: ConfigDict,
    axis_name: str | None = None,
) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """Heatmap + weighted offset + weighted refinement loss (PINet eqs. 5, 12).

    Over a device axis each device returns its share, such that the *mean* over
    devices is the loss of the whole batch: take `pmean` of the loss and of its
    gradients. The ratios of the offset losses are global: their denominators are
    summed over the devices, numerators stay local (no collective is differentiated).

    Args: as `compute_loss`, with normalised images and the targets of `render_targets`.

    Returns:
        The loss, and the pair of metrics (loss, heatmap_loss, offset_loss,
        refinement_loss as they enter the loss, and num_samples, the refinement's
        locations; all of the whole batch) and updated running statistics.
    """
    settings, beta = config.losses, config.losses.smooth_l1_beta
    share = functools.partial(_share, axis_name=axis_name)
    maps, updated = model.apply(
        {"params": params, "batch_stats": batch_stats}, images, train=True, mutable=["batch_stats"]
    )
    offset = share(*offset_loss(maps.offsets, targets.offsets, targets.offset_weights, beta))
    refinement = num_samples = jnp.zeros(())
    if model.refinement:
        index, valid = sample_locations(
            targets, settings.samples_per_part, config.targets.convention
        )
        refined, updated = _refined_offsets(model, params, updated, maps, index, valid)
        refinement = share(*refinement_loss(refined, targets, index, valid, beta))
        num_samples = valid.sum(dtype=jnp.float32)
    terms = {
        "heatmap_loss": _all_heatmaps_loss(maps, targets),
        "offset_loss": settings.offset_weight * offset,
        "refinement_loss": settings.refinement_weight * refinement,
    }
    loss = sum(terms.values())
    metrics = _global_metrics({"loss": loss, **terms}, num_samples, axis_name)
    return loss, (metrics, updated["batch_stats"])


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

    def candidates(x: Array) -> Array:
        return x.reshape(x.shape[0], -1, *x.shape[3:])

    delta, updated = model.apply(
        {"params": params, **updated},
        maps.features,
        candidates(poses),
        candidates(centers),
        candidates(valid),
        train=True,
        method="refine",
        mutable=["batch_stats"],
    )
    return offsets + delta.reshape(offsets.shape), updated


def _share(
    numerator: Float[Array, ""], denominator: Float[Array, ""], axis_name: str | None
) -> Float[Array, ""]:
    """This device's share of a global ratio: their mean over devices is the ratio, or 0 / 0 = 0."""
    num_devices = 1
    if axis_name is not None:
        denominator = jax.lax.psum(denominator, axis_name)
        num_devices = jax.lax.psum(1, axis_name)
    return numerator * num_devices / jnp.maximum(denominator, 1)


def _global_metrics(
    shares: dict[str, Float[Array, ""]], num_samples: Float[Array, ""], axis_name: str | None
) -> dict[str, Float[Array, ""]]:
    if axis_name is not None:
        shares = jax.lax.pmean(shares, axis_name)
        num_samples = jax.lax.psum(num_samples, axis_name)
    return {**shares, "num_samples": num_samples}
