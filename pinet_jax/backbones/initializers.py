"""How fresh weights are drawn: on the host, by NumPy.

A program that draws a network compiles for half a minute, and anew for every kind of device. So
an initialiser here only notes how a variable is drawn, in a box that Flax hands on from
`Module.init`; `draw` fills the boxes of a whole network.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.errors import ScopeParamShapeError
from jax.typing import DTypeLike

from pinet_jax.data import AnyArray

Shape = tuple[int, ...]
Sampler = Callable[[np.random.Generator, Shape], Any]  # what NumPy can make an array of


class Undrawn(struct.PyTreeNode, nn.meta.AxisMetadata):
    """A variable before it is drawn.

    Attributes:
        value: zeros of its shape and dtype, for what traces the network.
        sampler: draws it.
        stacked: leading axes that `nn.vmap` added; each of their rows is drawn for itself.
    """

    value: Any
    sampler: Sampler = struct.field(pytree_node=False)
    stacked: int = struct.field(pytree_node=False, default=0)

    def unbox(self) -> Any:
        """What the network computes with."""
        return self.value

    def replace_boxed(self, val: Any) -> "Undrawn":
        """The same way to draw another value."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Undrawn":
        """Of several of them, side by side along a new first axis."""
        assert index == 0, "a network stacks its variables along their first axis"
        return self.replace(stacked=self.stacked + 1)

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Undrawn":
        """Of one of the several."""
        return self.replace(stacked=self.stacked - 1)

    def drawn(self, generator: np.random.Generator) -> np.ndarray:
        """Its values."""
        rows, one = self.value.shape[: self.stacked], self.value.shape[self.stacked :]
        values = [self.sampler(generator, one) for _ in range(math.prod(rows))]
        return np.asarray(np.stack(values), self.value.dtype).reshape(self.value.shape)


Initializer = Callable[..., Undrawn]  # (key, shape, dtype=float32), as Flax calls it


def parameter(module: nn.Module, name: str, initializer: Initializer, shape: Shape) -> AnyArray:
    """`module.param`, without a trace of the initialiser when the parameter is there.

    Flax traces it for its shape, which takes a quarter of the time to trace a network.
    """
    if not module.has_variable("params", name):
        return module.param(name, initializer, shape)
    value = nn.meta.unbox(module.get_variable("params", name))
    if value.shape != shape:
        path = "/".join(module.path)
        raise ScopeParamShapeError(name, path, value.shape, shape)
    return value


def undrawn(module: nn.Module, *arguments: Any, **options: Any) -> Any:
    """The boxes of a module that is called so, with shapes for values."""
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments, **options))


def draw(variables: Any, seed: int) -> Any:
    """The variables in such boxes, in NumPy arrays.

    A variable's values depend on the seed, on its own path and shape, and on nothing else.
    """

    def drawn(path: tuple, leaf: Any) -> np.ndarray:
        if not _is_undrawn(leaf):
            raise TypeError(f"{jax.tree_util.keystr(path)}: its initialiser is not of this file")
        own = zlib.crc32(jax.tree_util.keystr(path).encode())
        return leaf.drawn(np.random.default_rng((seed % 2**64, own)))

    return jax.tree_util.tree_map_with_path(drawn, variables, is_leaf=_is_undrawn)


def _is_undrawn(leaf: Any) -> bool:
    return isinstance(leaf, Undrawn)


def drawn_by(sampler: Sampler) -> Initializer:
    """The initialiser of what a function of a generator and a shape draws."""

    def init(key: Any, shape: Shape, dtype: DTypeLike = jnp.float32) -> Undrawn:
        return Undrawn(jnp.zeros(shape, dtype), sampler)

    return init


def constant(value: float) -> Initializer:
    """The same number everywhere."""
    return drawn_by(lambda generator, shape: np.full(shape, value))


zeros, ones = constant(0.0), constant(1.0)


def normal(deviation: float) -> Initializer:
    """Gaussian around 0."""
    return drawn_by(lambda generator, shape: _gaussian(generator, shape) * deviation)


def uniform(bound: float) -> Initializer:
    """Uniform within `bound` of 0."""
    return drawn_by(lambda generator, shape: generator.uniform(-bound, bound, shape))


def scaled_normal(scale: float, fan: str) -> Initializer:
    """Gaussian of variance scale / fan; `fan` is "in", "out" or "avg" (He et al. 2015)."""
    return drawn_by(
        lambda generator, shape: _gaussian(generator, shape) * (scale / _fan(shape, fan)) ** 0.5
    )


def scaled_uniform(scale: float, fan: str) -> Initializer:
    """Uniform around 0, of variance scale / fan."""

    def sampler(generator: np.random.Generator, shape: Shape) -> np.ndarray:
        bound = (3 * scale / _fan(shape, fan)) ** 0.5
        return generator.uniform(-bound, bound, shape)

    return drawn_by(sampler)


def _gaussian(generator: np.random.Generator, shape: Shape) -> np.ndarray:
    return generator.standard_normal(shape, np.float32)


def _fan(shape: Shape, fan: str) -> float:
    """Numbers that one output is made of ("in"), or that one input goes into ("out")."""
    area = math.prod(shape[:-2])
    inputs, outputs = area * shape[-2], area * shape[-1]
    return {"in": inputs, "out": outputs, "avg": (inputs + outputs) / 2}[fan]
