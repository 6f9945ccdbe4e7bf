"""What is behind the people: gradients, smooth noise and clutter."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

_SHAPES = 14  # pieces of clutter


def sample_background(key: PRNGKeyArray, size: int) -> Float[Array, "{size} {size} 3"]:
    """A random RGB backdrop in [0, 1]: wall, floor, shapes and texture."""
    plan_key, clutter_key, noise_key = jax.random.split(key, 3)
    horizon, rough, *colors = jax.random.uniform(plan_key, (14,))
    wall, floor = _muted(jnp.stack(colors).reshape(2, 2, 3))
    rows = jnp.linspace(0, 1, size)[:, None, None]
    shade = jnp.where(rows < 0.3 + 0.65 * horizon, _blend(wall, rows), _blend(floor, rows))
    image = jnp.broadcast_to(shade, (size, size, 3))
    image = _clutter(clutter_key, image)
    return jnp.clip(image + (0.03 + 0.15 * rough) * _smooth_noise(noise_key, size), 0, 1)


def _muted(colors: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """Colours halfway to grey, as most things are."""
    return 0.5 * colors + 0.5 * jnp.mean(colors, axis=-1, keepdims=True)


def _blend(colors: Float[Array, "2 3"], fraction: Array) -> Array:
    return colors[0] + 0.5 * (colors[1] - colors[0]) * fraction


def _smooth_noise(key: PRNGKeyArray, size: int) -> Float[Array, "{size} {size} 3"]:
    """Value noise about 0, mostly grey, in octaves from coarse to fine."""
    octaves = [4, 8, 16, 32]
    draws = jax.random.normal(key, (sum(cells**2 for cells in octaves), 3))
    draws = 0.3 * draws + 0.7 * draws[:, :1]
    total = jnp.zeros((size, size, 3))
    for octave, cells in enumerate(octaves):
        grid, draws = jnp.split(draws, [cells**2])
        weights = _interpolation(size, cells) * 0.9**octave
        total += jnp.einsum("yi,xj,ijc->yxc", weights, weights, grid.reshape(cells, cells, 3))
    return total


def _interpolation(size: int, cells: int) -> Float[Array, "{size} {cells}"]:
    """Linear weights of `cells` knots for each of `size` pixels."""
    place = jnp.linspace(0, cells - 1, size)[:, None]
    return jnp.maximum(1 - jnp.abs(place - jnp.arange(cells)), 0)


def _clutter(key: PRNGKeyArray, image: Float[Array, "s s 3"]) -> Float[Array, "s s 3"]:
    """Paints turned rectangles, ellipses and poles over the image."""
    size = image.shape[0]
    rows, columns = jnp.mgrid[:size, :size] / size

    def paint(image: Array, draw: Array) -> tuple[Array, None]:
        x, y, slant, width, height, kind, pattern, there = draw[:8]
        half = 0.012 + 0.2 * jnp.stack([width, height]) ** 2
        color = _muted(draw[8:].reshape(2, 3))
        cos, sin = jnp.cos(3 * slant), jnp.sin(3 * slant)
        u = (cos * (columns - x) + sin * (rows - y)) / half[0]
        v = (cos * (rows - y) - sin * (columns - x)) / half[1]
        distance = jnp.where(kind < 0.5, u**2 + v**2, jnp.maximum(jnp.abs(u), jnp.abs(v)))
        second = ((pattern < 0.3) & (jnp.sin(9 * u) > 0)).astype(jnp.float32)[..., None]
        ink = color[0] * (1 - second) + color[1] * second
        return jnp.where(((distance < 1) & (there < 0.7))[..., None], ink, image), None

    return jax.lax.scan(paint, image, jax.random.uniform(key, (_SHAPES, 14)))[0]
