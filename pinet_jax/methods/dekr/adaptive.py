"""Adaptive convolution (DEKR section 3.2): the taps of a 3x3 kernel go where the pixel sends them.

Tap k at pixel p reads the map at p + A r_k + t, with a 2x2 matrix A and a shift t of the
pixel's own: deformable convolution of six numbers a pixel. Points are (y, x) in map pixels,
the order that released weights have.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pinet_jax.backbones import initializers
from pinet_jax.backbones.initializers import Initializer
from pinet_jax.backbones.layers import RELEASED_CONV_INIT, BatchNorm, relu

TAPS = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)], np.float32)  # r_k
# Uniform within 1 / sqrt(fan in) of 0.
RELEASED_ADAPTIVE_INIT = initializers.scaled_uniform(1 / 3, "in")
_RIM = (1, 2)  # zeros before and after the rows and the columns, which points outside read


class Kernel(nn.Module):
    """Kernel and bias of a square convolution, for `sum_of_taps`.

    Attributes:
        features: output channels.
        side: of the kernel.
        use_bias: else the bias is 0, as before a batch normalisation.
        kernel_init: of the kernel [side, side, c, features].
    """

    features: int
    side: int = 3
    use_bias: bool = True
    kernel_init: Initializer = RELEASED_CONV_INIT

    @nn.compact
    def __call__(self, channels: int) -> tuple[Float[Array, "t c f"], Float[Array, " f"]]:
        """For inputs of so many channels; the taps row by row, in float32."""
        shape = (self.side, self.side, channels, self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = jnp.zeros(self.features)
        if self.use_bias:
            bias = self.param("bias", initializers.zeros, (self.features,))
        return kernel.reshape(-1, channels, self.features), bias


def sum_of_taps(
    taps: Float[Array, "b h w t c"], kernel: Float[Array, "t c f"], bias: Float[Array, " f"]
) -> Float[Array, "b h w f"]:
    """What a convolution makes of the values that its taps read, in their dtype.

    A batched matrix product where branches are mapped: grouped convolutions are slow.
    """
    y = jnp.einsum("bhwtc,tcf->bhwf", taps, kernel.astype(taps.dtype))
    return y + bias.astype(taps.dtype)


class AdaptiveConv(Kernel):
    """The convolution of what the taps read at points of their own."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], points: Float[Array, "b h w t 2"]
    ) -> Float[Array, "b h w f"]:
        """Reads x bilinearly at points (y, x), zero outside."""
        return sum_of_taps(jax.vmap(read)(x, points), *super().__call__(x.shape[-1]))


class AdaptiveBlock(nn.Module):
    """Adaptive convolution, batch normalisation, the input added, ReLU.

    Attributes:
        axis_name: mapped axis for global batch statistics, or None.
    """

    axis_name: str | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """In the dtype of x; the points are float32."""
        channels = x.shape[-1]
        placing = Kernel(4, name="matrix")(channels), Kernel(2, name="translation")(channels)
        kernel, bias = (jnp.concatenate(parts, -1) for parts in zip(*placing, strict=True))
        placed = sum_of_taps(neighbours(x).astype(jnp.float32), kernel, bias)
        points = tap_points(placed[..., :4].reshape(*x.shape[:3], 2, 2), placed[..., 4:])
        # What the taps read is nine times x: training reads it again, going back.
        adapt = nn.remat(AdaptiveConv)(
            channels, use_bias=False, kernel_init=RELEASED_ADAPTIVE_INIT, name="adapt"
        )
        y = BatchNorm(self.axis_name, name="norm")(adapt(x, points), train)
        return relu(x + y)


def neighbours(x: Float[Array, "b h w c"]) -> Float[Array, "b h w 9 c"]:
    """Each pixel's 3x3 neighbourhood, row by row; zeros outside."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.stack(
        [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)], -2
    )


def tap_points(
    matrix: Float[Array, "b h w 2 2"], shift: Float[Array, "b h w 2"]
) -> Float[Array, "b h w 9 2"]:
    """Where the taps of each pixel p read: p + A r_k + t, (y, x)."""
    height, width = shift.shape[1:3]
    pixel = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)
    # No matrix product: accelerators would round coordinates.
    turned = (matrix[:, :, :, None] * TAPS[:, None]).sum(-1)
    return pixel[:, :, None] + turned + shift[:, :, :, None]


@jax.custom_vjp
def read(x: Float[Array, "h w c"], points: Float[Array, "*n 2"]) -> Float[Array, "*n c"]:
    """Bilinear values of a map at points (y, x); a corner outside the map counts as zero."""
    rows, padded = _rows(x)
    corner, weights, _ = _corners(points, x.shape[:2])
    total = sum(
        weights[..., number, None] * rows.at[corner + step].get(mode="promise_in_bounds")
        for number, step in enumerate(_steps(padded))
    )
    # Materialised: XLA would else compute all of it anew for each number of the product after it.
    return jax.lax.optimization_barrier(total.astype(x.dtype))


def _read_forward(x: Array, points: Array) -> tuple[Array, tuple[Array, Array]]:
    return read(x, points), (x, points)


def _read_backward(
    saved: tuple[Array, Array], gradient: Float[Array, "*n c"]
) -> tuple[Float[Array, "h w c"], Float[Array, "*n 2"]]:
    """Gradients of the map and of the points, which count from a whole pixel to the next."""
    x, points = saved
    height, width = x.shape[:2]
    rows, padded = _rows(x)
    corner, weights, fraction = _corners(points, (height, width))
    gradient = jax.lax.optimization_barrier(gradient.astype(jnp.float32))
    of_rows = jnp.zeros(rows.shape, jnp.float32)
    values = []  # of each corner along the gradient
    for number, step in enumerate(_steps(padded)):
        index = corner + step
        row = rows.at[index].get(mode="promise_in_bounds")
        values.append((row * gradient).sum(-1))
        of_rows = of_rows.at[index].add(
            weights[..., number, None] * gradient, mode="promise_in_bounds"
        )
    top_left, top_right, bottom_left, bottom_right = values
    fy, fx = fraction[..., 0], fraction[..., 1]
    of_y = (1 - fx) * (bottom_left - top_left) + fx * (bottom_right - top_right)
    of_x = (1 - fy) * (top_right - top_left) + fy * (bottom_right - bottom_left)
    inside = (points > -1) & (points < jnp.array([height, width]))
    of_points = jnp.where(inside, jnp.stack([of_y, of_x], -1), 0)
    of_map = of_rows.reshape(*padded, -1)[1 : 1 + height, 1 : 1 + width]
    return of_map.astype(x.dtype), of_points


read.defvjp(_read_forward, _read_backward)


def _rows(x: Float[Array, "h w c"]) -> tuple[Float[Array, "n c"], tuple[int, int]]:
    """The pixels of the map with zeros around, and its height and width then."""
    padded = jnp.pad(x, (_RIM, _RIM, (0, 0)))
    return padded.reshape(-1, x.shape[-1]), padded.shape[:2]


def _steps(padded: tuple[int, int]) -> tuple[int, int, int, int]:
    """From the row of a pixel to itself, the next to the right, below, and below right."""
    return 0, 1, padded[1], padded[1] + 1


def _corners(
    points: Float[Array, "*n 2"], size: tuple[int, int]
) -> tuple[Int[Array, "*n"], Float[Array, "*n 4"], Float[Array, "*n 2"]]:
    """Row of the top left corner about each point, the four corners' weights, the fractions."""
    clipped = jnp.clip(points, -1, jnp.array(size, points.dtype))  # all zeros from there on
    corner = jnp.floor(clipped)
    fraction = clipped - corner
    y, x = jnp.moveaxis(corner.astype(jnp.int32) + _RIM[0], -1, 0)
    fy, fx = fraction[..., 0], fraction[..., 1]
    weights = jnp.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], -1)
    # Materialised, as in `read`.
    return *jax.lax.optimization_barrier((y * (size[1] + sum(_RIM)) + x, weights)), fraction
