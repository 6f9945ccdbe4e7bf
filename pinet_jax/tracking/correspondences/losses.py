"""What the network is trained on: pairs of views of one still image (TRACKING.md, section 2)."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Real

from pinet_jax.data import AnyArray
from pinet_jax.tracking.correspondences.affinity import cells_of

NEAR = 3  # cells: a joint found so near counts as found


@struct.dataclass
class Pairs:
    """B pairs of views with the joints of P persons.

    Attributes:
        view_a: with the queries; RGB, or what a backbone makes of it.
        view_b: likewise, that is searched.
        queries: joints in view a, (x, y) in its pixels.
        targets: the same joints in view b.
        valid: queries that are asked.
        positive: of these, joints that are to be seen in view b; the others are absent.
    """

    view_a: Real[AnyArray, "b h w c"]
    view_b: Real[AnyArray, "b h w c"]
    queries: Float[AnyArray, "b p k 2"]
    targets: Float[AnyArray, "b p k 2"]
    valid: Bool[AnyArray, "b p k"]
    positive: Bool[AnyArray, "b p k"]


def affinity_loss(
    logits: Float[AnyArray, "b q h w"],
    targets: Float[AnyArray, "b q 2"],
    positive: Bool[AnyArray, "b q"],
    kind: str,
) -> Float[Array, ""]:
    """Stage 1, the mean over the positives.

    Args:
        logits: what A is the softmax of.
        targets: true places in view b, pixels.
        positive: queries that count.
        kind: "softmax": cross-entropy at the true cell; "bce": binary cross-entropy of A,
            which should be 1 within one cell of it and 0 elsewhere.
    """
    flat = logits.reshape(*logits.shape[:2], -1)
    log_a = jax.nn.log_softmax(flat, axis=-1)
    if kind == "softmax":
        row_major = jnp.array([1, logits.shape[-1]])
        cell = jnp.sum(cells_of(targets) * row_major, axis=-1)
        cell = jnp.clip(cell, 0, flat.shape[-1] - 1)
        loss = -jnp.take_along_axis(log_a, cell[..., None], axis=-1)[..., 0]
    else:
        near = near_cells(targets, positive, *logits.shape[-2:]).reshape(flat.shape)
        log_not_a = jnp.log1p(-jnp.minimum(jnp.exp(log_a), 1 - 1e-6))
        loss = -jnp.where(near, log_a, log_not_a).mean(-1)
    return masked_mean(loss, positive)


def refinement_loss(
    logits: Float[AnyArray, "t k h w"],
    targets: Float[AnyArray, "t k 2"],
    valid: Bool[AnyArray, "t k"],
    positive: Bool[AnyArray, "t k"],
    kind: str,
) -> Float[Array, ""]:
    """Stage 2: binary cross-entropy of R, the mean over the queries.

    R should be 1 within one cell of a joint that is there and 0 elsewhere.

    Args:
        logits: of R.
        targets: true places in view b, pixels.
        valid: queries that count.
        positive: of these, joints that are there.
        kind: "plain": the sum over all cells, so that R is the probability that the joint is
            there; "balanced": the mean over cells that should be 1 and that over the others.
    """
    near = near_cells(targets, positive, *logits.shape[-2:])
    ones = jnp.sum(-jax.nn.log_sigmoid(logits) * near, (-2, -1))
    zeros = jnp.sum(-jax.nn.log_sigmoid(-logits) * ~near, (-2, -1))
    if kind == "balanced":
        count = jnp.sum(near, (-2, -1))
        ones /= jnp.maximum(count, 1)
        zeros /= near.shape[-2] * near.shape[-1] - count
    return masked_mean(ones + zeros, valid)


def near_cells(
    points: Float[AnyArray, "*q 2"], there: Bool[AnyArray, "*q"], height: int, width: int
) -> Bool[Array, "*q {height} {width}"]:
    """Cells within one of that of each point, in both directions; none of a point not there."""
    column, row = jnp.moveaxis(cells_of(points), -1, 0)
    rows = jnp.abs(jnp.arange(height) - row[..., None]) <= 1
    columns = jnp.abs(jnp.arange(width) - column[..., None]) <= 1
    return rows[..., :, None] & columns[..., None, :] & there[..., None, None]


def found(
    maps: Float[AnyArray, "*q h w"],
    targets: Float[AnyArray, "*q 2"],
    positive: Bool[AnyArray, "*q"],
) -> Bool[AnyArray, "*q"]:
    """Positives whose largest value lies within `NEAR` cells of the true one."""
    flat = maps.reshape(*maps.shape[:-2], -1).argmax(-1)
    place = jnp.stack([flat % maps.shape[-1], flat // maps.shape[-1]], axis=-1)
    distance2 = jnp.sum((place - cells_of(targets)) ** 2, axis=-1)
    return positive & (distance2 <= NEAR**2)


def masked_mean(values: Float[AnyArray, "*q"], mask: Bool[AnyArray, "*q"]) -> Float[Array, ""]:
    """The mean where the mask is True; 0 where it nowhere is."""
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1)
