"""DEKR (Geng et al., CVPR 2021): offsets of each keypoint regressed by a branch of its own."""

from pinet_jax.methods.dekr import released
from pinet_jax.methods.dekr.network import DEKR, build

__all__ = ["DEKR", "build", "released"]
