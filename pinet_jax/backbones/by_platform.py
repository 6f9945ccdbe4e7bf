"""One function in two forms, of which a program gets the one for its platform when it is lowered.

As `jax.lax.platform_dependent`, without a trace of the choice in the program: lowered for
an accelerator it is, to the letter, what it would be without the form for CPUs.
"""

from collections.abc import Callable

import jax
from jax.core import ShapedArray
from jax.extend.core import Jaxpr, JaxprEqn, Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Array

Form = Callable[..., Array]

NAME = "form_by_platform"  # in jaxprs

_choice = Primitive(NAME)


def choose(usual: Form, on_cpu: Form, *arguments: Array) -> Array:
    """usual(*arguments); of programs for CPUs, on_cpu(*arguments).

    Both have the same shape and dtype. There is no gradient: give the caller one.
    """
    return _choice.bind(*arguments, usual=usual, on_cpu=on_cpu)


def usual_of(equation: JaxprEqn) -> Jaxpr:
    """The usual form, for readers of a program's jaxpr.

    Args:
        equation: of it, with the primitive NAME.
    """
    return jax.make_jaxpr(equation.params["usual"])(*(v.aval for v in equation.invars)).jaxpr


@_choice.def_impl
def _run(*arguments, usual: Form, on_cpu: Form) -> Array:
    del on_cpu  # for programs
    return usual(*arguments)


@_choice.def_abstract_eval
def _shape(*arguments, usual: Form, on_cpu: Form) -> ShapedArray:
    del on_cpu
    result = jax.eval_shape(usual, *arguments)
    return ShapedArray(result.shape, result.dtype)


def _map(arguments, axes, *, usual: Form, on_cpu: Form) -> tuple[Array, int]:
    return choose(jax.vmap(usual, axes), jax.vmap(on_cpu, axes), *arguments), 0


def _lower(context, *arguments, usual: Form, on_cpu: Form):
    del on_cpu
    return mlir.lower_fun(usual, multiple_results=False)(context, *arguments)


def _lower_on_cpu(context, *arguments, usual: Form, on_cpu: Form):
    del usual
    return mlir.lower_fun(on_cpu, multiple_results=False)(context, *arguments)


batching.primitive_batchers[_choice] = _map
mlir.register_lowering(_choice, _lower)
mlir.register_lowering(_choice, _lower_on_cpu, platform="cpu")
