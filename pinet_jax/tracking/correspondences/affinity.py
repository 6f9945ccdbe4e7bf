"""Affinity: where in one map what surrounds a place of another is found again.

The 3x3 window of features about a cell, zero outside the map, is one long vector. The
cross-correlation of a query's window with a map is then a product of such vectors: that of the
query with that of every cell.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pinet_jax.data import AnyArray

STRIDE = 4  # input pixels a cell
WINDOW = 3  # cells along each side
TAPS = WINDOW**2

_TINY = 1e-6  # squared length below which a feature counts as zero


def normalise(features: Float[Array, "*b c"], kind: str) -> Float[Array, "*b c"]:
    """Features of length 1 ("unit"), or divided by their squared length ("released")."""
    square = jnp.maximum(jnp.sum(features**2, axis=-1, keepdims=True), _TINY)
    return features / square if kind == "released" else features * jax.lax.rsqrt(square)


def cells_of(points: Float[AnyArray, "*b 2"]) -> Int[Array, "*b 2"]:
    """The cell, (column, row), that each point in input pixels lies in: floor(p / 4)."""
    return jnp.floor(points / STRIDE).astype(jnp.int32)


def inside(cells: Int[Array, "*b 2"], height: int, width: int) -> Bool[Array, "*b"]:
    """Whether cells (column, row) are of a map of that many rows and columns."""
    return jnp.all((cells >= 0) & (cells < jnp.array([width, height])), axis=-1)


def windows(features: Float[Array, "*b h w c"]) -> Float[Array, "*b h w 9*c"]:
    """The 3x3 window about every cell as one vector, its nine taps row by row."""
    height, width = features.shape[-3:-1]
    margin = [(0, 0)] * (features.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    padded = jnp.pad(features, margin)
    taps = [
        padded[..., row : row + height, column : column + width, :]
        for row in range(WINDOW)
        for column in range(WINDOW)
    ]
    return jnp.concatenate(taps, axis=-1)


def query_windows(
    features: Float[Array, "s h w c"], source: Int[Array, "*q"], cells: Int[Array, "*q 2"]
) -> Float[Array, "*q 9*c"]:
    """The windows about some cells; zeros about a cell outside the map.

    Args:
        features: S maps.
        source: of each query, the map that it is read from.
        cells: (column, row).
    """
    height, width = features.shape[1:3]
    padded = jnp.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
    there = inside(cells, height, width)
    column, row = jnp.moveaxis(jnp.where(there[..., None], cells, 0), -1, 0)
    offsets = jnp.arange(WINDOW)
    rows = row[..., None, None] + offsets[:, None]
    columns = column[..., None, None] + offsets
    found = padded[source[..., None, None], rows, columns]
    found = found.reshape(*cells.shape[:-1], -1)
    return jnp.where(there[..., None], found, 0)


def similarity(
    queries: Float[Array, "*b q n"], features: Float[Array, "*b h w c"]
) -> Float[Array, "*b q h w"]:
    """Cross-correlation of each query's window with a map: the sum over taps and channels.

    Args:
        queries: windows, n = 9 c.
        features: the map that they are looked for in.
    """
    return jnp.einsum("...qn,...hwn->...qhw", queries, windows(features))


def over_cells(logits: Float[Array, "*b h w"]) -> Float[Array, "*b h w"]:
    """Softmax over all the cells of each map."""
    flat = logits.reshape(*logits.shape[:-2], -1)
    return jax.nn.softmax(flat, axis=-1).reshape(logits.shape)
