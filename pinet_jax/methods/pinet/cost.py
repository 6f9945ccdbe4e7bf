"""What a PINet costs: parameters and operations, from shapes alone.

Operations are counted twice, as papers do and as XLA does; docs/tools.md says what either means.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
from jax.extend import core
from ml_collections import ConfigDict

from pinet_jax.backbones.hrnet import HEATMAP_STRIDE, NETWORK_STRIDE
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import network
from pinet_jax.methods.variables import shapes
from pinet_jax.runtime import tables

BACKBONE, HEADS, REFINEMENT = "backbone", "PPG heads", "PR"
_COLUMNS = ("", "parameters", "M", "GFLOPs (papers)", "GFLOPs (XLA)")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one piece of the network, for one image.

    Attributes:
        parameters: numbers that training changes.
        multiply_adds: of convolutions and matrix products.
        xla_flops: floating-point operations as XLA counts them before it optimises.
    """

    parameters: int
    multiply_adds: int
    xla_flops: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.xla_flops + other.xla_flops,
        )


def network_cost(config: ConfigDict, height: int, width: int) -> dict[str, Cost]:
    """The cost of backbone, PPG heads and, where the model has one, PR.

    One view of one image: a flip test doubles the operations, each further scale adds its
    own. PR counts for `num_proposals`. Nothing is computed: only shapes are traced.

    Args:
        config: its model, dataset.skeleton, dtype and eval.max_peaks are read.
        height: of the network input, pixels.
        width: of the network input, pixels.

    Raises:
        UserError: sides that are no multiples of the network's stride, or no such model.
    """
    _check_side(height)
    _check_side(width)
    model = network.build(config)
    variables = shapes(model)
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    features = jax.eval_shape(_method(model, _backbone), variables, image)
    costs = {
        BACKBONE: _cost(model, "backbone", variables, _backbone, image, convolutions_only=True),
        HEADS: _cost(model, "ppg", variables, _heads, features),
    }
    if model.refinement:
        proposals = _abstract_proposals(model, num_proposals(config, height, width))
        costs[REFINEMENT] = _cost(
            model, "refiner", variables, type(model).refine, features, *proposals
        )
    return costs


def num_proposals(config: ConfigDict, height: int, width: int) -> int:
    """The most poses that PR refines in one view of one image: config.eval.max_peaks a part."""
    pixels = (height // HEATMAP_STRIDE) * (width // HEATMAP_STRIDE)
    return len(network.build(config).parts) * min(config.eval.max_peaks, pixels)


def table(costs: Mapping[str, Cost]) -> str:
    """One line a piece and their total, as in a paper."""
    total = functools.reduce(Cost.__add__, costs.values())
    rows = {**costs, "total": total}
    return tables.aligned([_COLUMNS, *(_cells(*item) for item in rows.items())])


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


def _backbone(model: network.PINet, image):
    return model.backbone(image)


def _heads(model: network.PINet, features):
    return model.ppg(features)


def _method(model: network.PINet, method: Callable) -> Callable:
    return functools.partial(model.apply, method=method)


def _abstract_proposals(model: network.PINet, count: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Poses, centres and validity, as `PINet.refine` takes them."""
    return (
        jax.ShapeDtypeStruct((1, count, model.num_keypoints, 2), jnp.float32),
        jax.ShapeDtypeStruct((1, count, 2), jnp.int32),
        jax.ShapeDtypeStruct((1, count), bool),
    )


def _cost(
    model, name: str, variables: dict, method: Callable, *arguments, convolutions_only=False
) -> Cost:
    """Of the submodule `name`, which `method` alone uses."""
    of_piece = {kind: {name: tree[name]} for kind, tree in variables.items() if name in tree}
    traced = jax.jit(_method(model, method)).trace(of_piece, *arguments)
    return Cost(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(of_piece["params"])),
        multiply_adds=multiply_adds(traced.jaxpr.jaxpr, convolutions_only),
        xla_flops=round(traced.lower().cost_analysis()["flops"]),
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
