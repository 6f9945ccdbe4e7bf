"""What networks cost: parameters and operations, from shapes alone.

Operations are counted twice, as papers do and as XLA does; docs/tools.md says what either means.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core

from pinet_jax.backbones import by_platform
from pinet_jax.backbones.hrnet import NETWORK_STRIDE
from pinet_jax.errors import UserError
from pinet_jax.methods.variables import shapes
from pinet_jax.runtime import tables

BACKBONE = "backbone"
_COLUMNS = ("", "parameters", "M", "GFLOPs (papers)", "GFLOPs (XLA)")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one piece of the network, for one image.

    Attributes:
        parameters: numbers that training changes.
        multiply_adds: of convolutions and matrix products.
        xla_flops: floating-point operations as XLA counts them before it optimises.
        in_paper: whether the method's paper counts the piece in its total.
    """

    parameters: int
    multiply_adds: int
    xla_flops: int
    in_paper: bool = True

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.xla_flops + other.xla_flops,
        )


class Network:
    """A network whose pieces are looked at one by one; nothing is computed.

    Args:
        model: with the submodule "backbone".
        height: of the network input, pixels.
        width: of the network input, pixels.

    Attributes:
        features: F of one image, as a shape.

    Raises:
        UserError: sides that are no multiples of the network's stride.
    """

    def __init__(self, model: nn.Module, height: int, width: int):
        _check_side(height)
        _check_side(width)
        self._model = model
        self._variables = shapes(model)
        image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
        self._of_backbone = self._traced(("backbone",), _backbone, image)
        self.features = self._of_backbone.out_info

    def backbone(self) -> Cost:
        """Of the backbone, in one view of one image, whose matrix products only interpolate."""
        return self._cost(("backbone",), self._of_backbone, convolutions_only=True)

    def piece(self, names: tuple[str, ...], method: Callable, *arguments: Any) -> Cost:
        """Of submodules.

        Args:
            names: of the submodules that `method` uses.
            method: a function of the model and the arguments.
            arguments: shapes.
        """
        return self._cost(names, self._traced(names, method, *arguments))

    def _traced(
        self, names: tuple[str, ...], method: Callable, *arguments: Any
    ) -> jax.stages.Traced:
        apply = functools.partial(self._model.apply, method=method)
        return jax.jit(apply).trace(self._variables_of(names), *arguments)

    def _cost(
        self, names: tuple[str, ...], traced: jax.stages.Traced, convolutions_only: bool = False
    ) -> Cost:
        return Cost(
            parameters=sum(
                leaf.size for leaf in jax.tree.leaves(self._variables_of(names)["params"])
            ),
            multiply_adds=multiply_adds(traced.jaxpr.jaxpr, convolutions_only),
            xla_flops=round(traced.lower().cost_analysis()["flops"]),
        )

    def _variables_of(self, names: tuple[str, ...]) -> dict[str, dict]:
        return {
            kind: {name: tree[name] for name in names if name in tree}
            for kind, tree in self._variables.items()
        }


def _backbone(model: nn.Module, image):
    return model.backbone(image)


def table(costs: Mapping[str, Cost]) -> str:
    """One line a piece and their total, as in a paper.

    Beside it that without the pieces that the paper does not count, if there are any.
    """
    counted = {name: cost for name, cost in costs.items() if cost.in_paper}
    rows = {**costs, "total": _sum(costs)}
    if len(counted) < len(costs):
        rows[f"without {', '.join(set(costs) - set(counted))}"] = _sum(counted)
    return tables.aligned([_COLUMNS, *(_cells(*item) for item in rows.items())])


def _sum(costs: Mapping[str, Cost]) -> Cost:
    return functools.reduce(Cost.__add__, costs.values())


def _cells(name: str, cost: Cost) -> tuple[str, ...]:
    return (
        name,
        f"{cost.parameters:,}",
        f"{cost.parameters / 1e6:.2f}",
        f"{cost.multiply_adds / 1e9:.3f}",
        f"{cost.xla_flops / 1e9:.3f}",
    )


def _check_side(side: int) -> None:
    if side <= 0 or side % NETWORK_STRIDE:
        raise UserError(
            f"The network cannot see {side} pixels: give sides that are multiples of "
            f"{NETWORK_STRIDE}."
        )


def multiply_adds(jaxpr: core.Jaxpr, convolutions_only: bool = False) -> int:
    """Multiply-adds of the convolutions and matrix products of a program without loops.

    Args:
        jaxpr: of the program.
        convolutions_only: leave matrix products out, where they only interpolate.
    """
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            total += _of_convolution(equation)
        elif name == "dot_general" and not convolutions_only:
            total += _of_matrix_product(equation)
        total += sum(multiply_adds(inner, convolutions_only) for inner in _inner(equation))
    return total


def _inner(equation) -> Iterator[core.Jaxpr]:
    """The functions that an equation calls."""
    if equation.primitive.name == by_platform.NAME:
        yield by_platform.usual_of(equation)
    for value in equation.params.values():
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _of_convolution(equation) -> int:
    """Each output number is a sum over the kernel's area and input channels."""
    kernel = equation.invars[1].aval.shape
    outputs = equation.params["dimension_numbers"].rhs_spec[0]
    return equation.outvars[0].aval.size * math.prod(kernel) // kernel[outputs]


def _of_matrix_product(equation) -> int:
    """Each output number is a sum over the contracted axes."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
