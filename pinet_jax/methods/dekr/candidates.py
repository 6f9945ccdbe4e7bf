"""From images to scored poses before suppression: PINet's way with one part, two details apart.

The mirrored view's last columns are kept, and a keypoint's heat is read at whole pixels.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.config import with_fields
from pinet_jax.methods.candidates import Candidates, Evidence
from pinet_jax.methods.dekr.network import DEKR
from pinet_jax.methods.pinet import candidates as pinet
from pinet_jax.methods.pinet.decoding import read_keypoint_heatmaps
from pinet_jax.methods.variables import Variables


def parts(config: ConfigDict) -> skeletons.Parts:
    """One part, the whole person."""
    return (tuple(range(skeletons.of(config).num_keypoints)),)


def check(config: ConfigDict) -> None:
    """Nothing in a config that holds together is impossible."""


def find_candidates(
    model: DEKR,
    variables: Variables,
    images: tuple[UInt8[Array, "b _ _ 3"], ...],
    to_image: Float[Array, "b 2 3"],
    config: ConfigDict,
) -> Candidates:
    """All scored poses before suppression; arguments as of `inspect`."""
    return inspect(model, variables, images, to_image, config).candidates


def inspect(
    model: DEKR,
    variables: Variables,
    images: tuple[UInt8[Array, "b _ _ 3"], ...],
    to_image: Float[Array, "b 2 3"],
    config: ConfigDict,
) -> Evidence:
    """All scored poses before suppression, with the maps they were read from.

    Reading both views' offsets at a peak and averaging the poses is averaging the views'
    maps of poses first, as the released code does. Candidates come by falling scale, the order
    that its suppression goes in; maps in the order of the config. Arguments as of
    `pinet.inspect`.
    """
    scales = tuple(config.eval.scales)
    order = sorted(range(len(scales)), key=lambda number: -scales[number])
    falling = with_fields(config, {"eval.scales": tuple(scales[number] for number in order)})
    images = tuple(images[number] for number in order)
    seen = pinet.inspect(model, variables, images, to_image, falling, mirrored_view, heat)
    keypoint_maps, part_maps = (
        tuple(maps[order.index(number)] for number in range(len(scales)))
        for maps in (seen.keypoint_heatmaps, seen.part_heatmaps)
    )
    return Evidence(keypoint_maps, part_maps, seen.candidates)


def mirrored_view(images: Float[Array, "b h w 3"], shift: int) -> Float[Array, "b h w 3"]:
    """Mirrored images moved left by `shift` pixels; the last ones stay as they were."""
    mirrored = images[:, :, ::-1]
    return jnp.concatenate([mirrored[:, :, shift:], mirrored[:, :, mirrored.shape[2] - shift :]], 2)


def heat(
    heatmaps: Sequence[Float[Array, "b _ _ k"]],
    scales: Sequence[float],
    poses: Float[Array, "b n k 2"],
    size: tuple[int, int],
) -> Float[Array, "b n k"]:
    """The keypoint heatmaps' value at the whole pixel of each keypoint, inside the map.

    As the released code reads the maps that it has up-sampled to the size of the input:
    every scale's map is linear between its pixels.

    Args:
        heatmaps: of every scale, averaged over the views.
        scales: of the heatmaps.
        poses: (x, y) in network-input pixels of scale 1.
        size: height and width of the network input of scale 1.
    """
    pixels = jnp.clip(jnp.floor(poses), 0, jnp.array(size[::-1]) - 1)
    reads = [
        read_keypoint_heatmaps(maps, pixels * (scale / HEATMAP_STRIDE))
        for maps, scale in zip(heatmaps, scales, strict=True)
    ]
    return sum(reads) / len(reads)
