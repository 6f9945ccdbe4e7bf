"""Convolution, batch normalisation and ReLU with PyTorch's conventions.

They follow the released weights: explicit symmetric padding (a stride-2 "SAME"
convolution pads differently) and running variances that are unbiased.

This is also the one place that knows what XLA makes of them on a CPU. Where another form
of the same function is faster there, CPU programs get it when they are lowered, and those
of all other platforms have XLA's usual one.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pinet_jax.backbones import initializers
from pinet_jax.backbones.by_platform import Form, choose
from pinet_jax.backbones.initializers import Initializer, parameter
from pinet_jax.data import AnyArray

Padding = tuple[tuple[int, int], tuple[int, int]]

RELEASED_CONV_INIT = initializers.normal(0.001)
CONV_INITS: dict[str, Initializer] = {
    "released": RELEASED_CONV_INIT,
    "he": initializers.scaled_normal(2.0, "out"),
}


class Conv(nn.Module):
    """Square convolution padded by (kernel - 1) / 2 on every side.

    Attributes:
        features: output channels.
        kernel: side of the kernel, odd.
        dtype: of the computation; parameters are float32.
        use_bias: False before a batch normalisation.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    dtype: DTypeLike = jnp.float32
    use_bias: bool = False
    kernel_init: Initializer = RELEASED_CONV_INIT
    bias_init: Initializer = initializers.zeros

    @nn.compact
    def __call__(self, x: Float[AnyArray, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        """Convolves x, NHWC."""
        weights = ConvWeights(
            self.features, self.kernel, self.use_bias, self.kernel_init, self.bias_init, name="conv"
        )
        x, kernel, bias = promote_dtype(x, *weights(x.shape[-1]), dtype=self.dtype)
        pad, strides = (self.kernel - 1) // 2, (self.stride, self.stride)
        y = convolve(x, kernel, strides, ((pad, pad), (pad, pad)))
        return y if bias is None else y + bias.reshape(1, 1, 1, -1)


class ConvWeights(nn.Module):
    """The parameters of a square convolution, as flax.linen.Conv has them.

    Attributes:
        features: output channels.
        kernel: side of the kernel.
        use_bias: whether there is one.
    """

    features: int
    kernel: int
    use_bias: bool
    kernel_init: Initializer = RELEASED_CONV_INIT
    bias_init: Initializer = initializers.zeros

    @nn.compact
    def __call__(
        self, channels: int
    ) -> tuple[Float[AnyArray, "kh kw c f"], Float[AnyArray, " f"] | None]:
        """Kernel for so many input channels, and bias if there is one, in float32."""
        shape = self.kernel, self.kernel, channels, self.features
        kernel = parameter(self, "kernel", self.kernel_init, shape)
        if not self.use_bias:
            return kernel, None
        return kernel, parameter(self, "bias", self.bias_init, (self.features,))


class BatchNorm(nn.Module):
    """Normalises the last axis over all others, in float32.

    Entries that `mask` excludes count in no statistic. Statistics cover one
    device, or all devices of `axis_name`, exactly: sums are reduced, not means.

    Attributes:
        axis_name: mapped axis to share the statistics over, or None.
        momentum: of the running statistics, in Flax's sense.
    """

    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self,
        x: Float[AnyArray, "*n c"],
        train: bool,
        mask: Bool[AnyArray, "*n"] | None = None,
    ) -> Float[Array, "*n c"]:
        """Normalised, scaled and shifted x in its own dtype; mask None keeps all."""
        channels = x.shape[-1]
        zeros, ones, shape = initializers.zeros, initializers.ones, (channels,)
        scale = parameter(self, "scale", ones, shape)
        bias = parameter(self, "bias", zeros, shape)
        running_mean = self.variable("batch_stats", "mean", zeros, None, shape)
        running_var = self.variable("batch_stats", "var", ones, None, shape)
        if not train:
            return _scaled(x, scale, bias, running_mean.value, running_var.value, self.epsilon)
        y, mean, var, rate = _normalised(
            x, mask, scale, bias, self.axis_name, self.epsilon, 1 - self.momentum
        )
        if not self.is_initializing():
            running_mean.value += rate * (mean - running_mean.value)
            running_var.value += rate * (var - running_var.value)
        return y


# Jitted for itself: a network has hundreds of normalisations, but few shapes to trace them of.
@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _normalised(
    x: Float[AnyArray, "*n c"],
    mask: Bool[AnyArray, "*n"] | None,
    scale: Float[AnyArray, " c"],
    bias: Float[AnyArray, " c"],
    axis_name: str | None,
    epsilon: float,
    rate: float,
) -> tuple[Float[Array, "*n c"], Float[Array, " c"], Float[Array, " c"], Float[Array, ""]]:
    """x normalised by its own statistics; its mean and unbiased variance; how much they count.

    A batch with nothing in it leaves the running statistics alone: it counts 0, else `rate`.
    """
    y, mean, var, count = _normalise(x, mask, scale, bias, axis_name, epsilon)
    unbiased = var * (count / jnp.maximum(count - 1, 1))
    return y, mean, unbiased, jnp.where(count > 0, rate, 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _normalise(
    x: Float[Array, "*n c"],
    mask: Bool[Array, "*n"] | None,
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    axis_name: str | None,
    epsilon: float,
) -> tuple[Float[Array, "*n c"], Float[Array, " c"], Float[Array, " c"], Float[Array, ""]]:
    """y, and mean, biased variance and number of what counts, which have no gradient.

    Its gradient is written out: XLA repeats in every program that reads one what
    differentiation leaves of the statistics, 30,000 instructions in a training step of W32.
    """
    mean, var, count = _moments(x.astype(jnp.float32), mask, axis_name)
    return _scaled(x, scale, bias, mean, var, epsilon), mean, var, count


def _normalise_forward(x, mask, scale, bias, axis_name, epsilon):
    y, mean, var, count = _normalise(x, mask, scale, bias, axis_name, epsilon)
    return (y, mean, var, count), (x, mask, scale, bias, mean, var, count)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _normalise_backward(
    axis_name: str | None, epsilon: float, seen: tuple, gradients: tuple
) -> tuple[Array, None, Array, Array]:
    """Gradients of x, scale and bias.

    With r = 1 / sqrt(var + epsilon): what reaches an x directly, scale * r * dy, less what it
    does to the statistics of all that count, which is linear in x.
    """
    x, mask, scale, bias, mean, var, count = seen
    dy = gradients[0].astype(jnp.float32)
    centred = x.astype(jnp.float32) - mean
    axes = tuple(range(x.ndim - 1))
    local = dy.sum(axes), (dy * centred).sum(axes)
    dbias, dcentred = local if axis_name is None else jax.lax.psum(local, axis_name)
    inverse = jax.lax.rsqrt(var + epsilon)
    share = scale * inverse / jnp.maximum(count, 1)
    # A variance that was rounded to nothing is a constant.
    slope = jnp.where(var > 0, share * jnp.square(inverse) * dcentred, 0)
    through_statistics = slope * centred + share * dbias
    if mask is not None:
        through_statistics = jnp.where(mask[..., None], through_statistics, 0)
    dx = scale * inverse * dy - through_statistics
    return (
        dx.astype(x.dtype),
        None,
        (inverse * local[1]).astype(scale.dtype),
        local[0].astype(bias.dtype),
    )


_normalise.defvjp(_normalise_forward, _normalise_backward)


@functools.partial(jax.jit, static_argnums=5)
def _scaled(
    x: Float[AnyArray, "*n c"],
    scale: Float[AnyArray, " c"],
    bias: Float[AnyArray, " c"],
    mean: Float[AnyArray, " c"],
    var: Float[AnyArray, " c"],
    epsilon: float,
) -> Float[Array, "*n c"]:
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return (x * factor + (bias - mean * factor)).astype(x.dtype)


def _moments(
    x: Float[AnyArray, "*n c"], mask: Bool[AnyArray, "*n"] | None, axis_name: str | None
) -> tuple[Float[Array, " c"], Float[Array, " c"], Float[Array, ""]]:
    """Mean, biased variance and number of the unmasked entries."""
    axes = tuple(range(x.ndim - 1))
    if mask is None:
        count = jnp.array(x.size // x.shape[-1], jnp.float32)
    else:
        x = jnp.where(mask[..., None], x, 0)
        count = jnp.sum(mask, dtype=jnp.float32)
    sums = count, x.sum(axes), jnp.square(x).sum(axes)
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    count, total, total_square = sums
    mean = total / jnp.maximum(count, 1)
    var = total_square / jnp.maximum(count, 1) - jnp.square(mean)
    return mean, jnp.maximum(var, 0), count


@jax.jit
def relu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """max(x, 0), with the gradient 0 at 0."""
    return _relu(x)


@jax.custom_jvp
def _relu(x: Array) -> Array:
    return choose(jax.nn.relu, _relu_on_cpu, x)


def _relu_on_cpu(x: Array) -> Array:
    """Computed once; XLA computes a maximum with a constant anew wherever it is used.

    And with it the sum it is of: through a chain of residual blocks that never ends.
    """
    return jnp.where(x <= 0, 0, x)


@_relu.defjvp
def _relu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = relu(*primals)
    return y, jnp.where(y > 0, *tangents, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c f"],
    strides: tuple[int, int],
    padding: Padding,
) -> Float[Array, "b h2 w2 f"]:
    """Convolution of rows and columns; it and its gradients are fast on CPUs too.

    Args:
        x: maps.
        kernel: of the dtype of x.
        strides: of rows and columns.
        padding: with zeros, before and after the rows and the columns.
    """

    def usual(x: Array, kernel: Array) -> Array:
        return _convolve(x, kernel, strides, padding)

    return _choose(usual, _on_cpu(kernel, strides, padding).forward, x, kernel)


def _convolve(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=dimensions)


def _convolve_forward(x: Array, kernel: Array, strides: tuple, padding: Padding) -> tuple:
    return convolve(x, kernel, strides, padding), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _convolve_backward(
    strides: tuple[int, int], padding: Padding, inputs: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    """Gradients of x and of the kernel."""
    x, kernel = inputs

    def of_x(gradient: Array, kernel: Array) -> Array:
        transposed = jax.linear_transpose(lambda y: _convolve(y, kernel, strides, padding), x)
        return transposed(gradient)[0]

    def of_kernel(x: Array, gradient: Array) -> Array:
        transposed = jax.linear_transpose(lambda k: _convolve(x, k, strides, padding), kernel)
        return transposed(gradient)[0]

    on_cpu = _on_cpu(kernel, strides, padding)
    return (
        _choose(of_x, on_cpu.of_x, gradient, kernel),
        _choose(of_kernel, on_cpu.of_kernel, x, gradient),
    )


convolve.defvjp(_convolve_forward, _convolve_backward)


def _choose(usual: Form, on_cpu: Form | None, *arguments: Array) -> Array:
    """`choose`, where there is a form for CPUs."""
    return usual(*arguments) if on_cpu is None else choose(usual, on_cpu, *arguments)


def _pointwise(
    x: Float[Array, "b h w c"], kernel: Float[Array, "1 1 c f"]
) -> Float[Array, "b h w f"]:
    """As one matrix product, which all threads share; a 1x1 convolution is one thread's."""
    return jnp.einsum("bhwc,cf->bhwf", x, kernel[0, 0])


def _pointwise_input_gradient(
    gradient: Float[Array, "b h w f"], kernel: Float[Array, "1 1 c f"]
) -> Float[Array, "b h w c"]:
    return jnp.einsum("bhwf,cf->bhwc", gradient, kernel[0, 0])


def _pointwise_kernel_gradient(
    x: Float[Array, "b h w c"], gradient: Float[Array, "b h w f"]
) -> Float[Array, "1 1 c f"]:
    """As one matrix product, which XLA does not make of it by itself."""
    return jnp.einsum("bhwc,bhwf->cf", x, gradient)[None, None]


def _same_3x3_kernel_gradient(
    x: Float[Array, "b h w c"], gradient: Float[Array, "b h w f"]
) -> Float[Array, "3 3 c f"]:
    """As a convolution over rows alone, of all columns and images as channels.

    The kernel's columns are three copies of the gradient, shifted by one, side by side:
    XLA's own form has a window of the size of the map in both directions, most of which
    is spent on copying.
    """
    batch, height, width, channels = x.shape
    features = gradient.shape[-1]
    # What XLA's convolutions read, so that it does not transpose once more.
    columns = x.transpose(3, 1, 0, 2).reshape(channels, height, batch * width)
    padded = jnp.pad(gradient.swapaxes(0, 1), ((0, 0), (0, 0), (1, 1), (0, 0)))
    shifted = [padded[:, :, 2 - column :][:, :, :width] for column in range(3)]
    found = jax.lax.conv_general_dilated(
        columns,
        jnp.concatenate(shifted, -1).reshape(height, batch * width, 3 * features),
        window_strides=(1,),
        padding=((1, 1),),
        dimension_numbers=("NHC", "HIO", "NHC"),
    )
    return found.reshape(channels, 3, 3, features).transpose(1, 2, 0, 3)


class _Forms(NamedTuple):
    """Of a convolution and its gradients; None is the usual one."""

    forward: Form | None = None  # of x and the kernel
    of_x: Form | None = None  # of the output's gradient and the kernel
    of_kernel: Form | None = None  # of x and the output's gradient


_FORMS_ON_CPU = {  # by size, strides and padding
    ((1, 1), (1, 1), ((0, 0), (0, 0))): _Forms(
        _pointwise, _pointwise_input_gradient, _pointwise_kernel_gradient
    ),
    ((3, 3), (1, 1), ((1, 1), (1, 1))): _Forms(of_kernel=_same_3x3_kernel_gradient),
}


def _on_cpu(kernel: Array, strides: tuple[int, int], padding: Padding) -> _Forms:
    return _FORMS_ON_CPU.get((kernel.shape[:2], strides, padding), _Forms())
