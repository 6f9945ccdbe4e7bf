"""Convolution and batch normalisation with PyTorch's conventions.

Both follow the released weights: explicit symmetric padding (a stride-2 "SAME"
convolution pads differently) and running variances that are unbiased.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Initializer = Callable[..., Array]

RELEASED_CONV_INIT = nn.initializers.normal(0.001)
CONV_INITS: dict[str, Initializer] = {
    "released": RELEASED_CONV_INIT,
    "he": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
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
    dtype: jnp.dtype = jnp.float32
    use_bias: bool = False
    kernel_init: Initializer = RELEASED_CONV_INIT

    @nn.compact
    def __call__(self, x: Float[Array, "*b h w c"]) -> Float[Array, "*b h2 w2 f"]:
        """Convolves x, NHWC."""
        pad = (self.kernel - 1) // 2
        return nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            (self.stride, self.stride),
            padding=((pad, pad), (pad, pad)),
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)


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
        x: Float[Array, "*n c"],
        train: bool,
        mask: Bool[Array, "*n"] | None = None,
    ) -> Float[Array, "*n c"]:
        """Normalised, scaled and shifted x in its own dtype; mask None keeps all."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if train:
            mean, var, count = self._moments(x.astype(jnp.float32), mask)
            if not self.is_initializing():
                # A batch with nothing in it leaves the running statistics alone.
                rate = jnp.where(count > 0, 1 - self.momentum, 0.0)
                unbiased = var * (count / jnp.maximum(count - 1, 1))
                running_mean.value += rate * (mean - running_mean.value)
                running_var.value += rate * (unbiased - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return (x * factor + (bias - mean * factor)).astype(x.dtype)

    def _moments(
        self, x: Float[Array, "*n c"], mask: Bool[Array, "*n"] | None
    ) -> tuple[Float[Array, " c"], Float[Array, " c"], Float[Array, ""]]:
        """Mean, biased variance and number of the unmasked entries."""
        axes = tuple(range(x.ndim - 1))
        if mask is None:
            count = jnp.array(x.size // x.shape[-1], jnp.float32)
        else:
            x = jnp.where(mask[..., None], x, 0)
            count = mask.sum(dtype=jnp.float32)
        sums = count, x.sum(axes), jnp.square(x).sum(axes)
        if self.axis_name is not None:
            sums = jax.lax.psum(sums, self.axis_name)
        count, total, total_square = sums
        mean = total / jnp.maximum(count, 1)
        var = total_square / jnp.maximum(count, 1) - jnp.square(mean)
        return mean, jnp.maximum(var, 0), count
