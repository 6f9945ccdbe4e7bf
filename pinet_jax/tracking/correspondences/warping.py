"""Where the joints of tracked people are in another frame: R, compiled at static shapes.

People are padded to 8, 16, 32 or 80 and worked off in groups of 8, so that memory does not grow
with the crowd. Features of the last frames stay on the device, since a track that was not seen
for a while is looked for by the features of the frame where it last was.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Float16, Int, Real
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.data import AnyArray
from pinet_jax.methods.variables import shapes
from pinet_jax.tracking.correspondences import network, weights
from pinet_jax.tracking.correspondences.affinity import STRIDE, cells_of, inside, query_windows

GROUP = 8  # people at a time
_SIZES = (GROUP, 16, 32)  # that people are padded to; and config.tracking.max_people
_MASS = 5  # cells; side of the square whose A is R where there is no refinement


@struct.dataclass
class Description:
    """What is kept of S frames, each array with a leading axis of S.

    Attributes:
        features: F.
        as_a: what F adds to the refinement as the frame with the queries.
        as_b: and as the frame that is searched.
    """

    features: Float[Array, "s h w c"]
    as_a: Float[Array, "s h2 w2 f"]
    as_b: Float[Array, "s h2 w2 f"]


@struct.dataclass
class Warped:
    """Where T people (the last ones padding) are in a frame.

    Attributes:
        maps: R, still on the device.
        joints: where R is largest, (x, y) in pixels of the view.
        scores: R there; 0 for a joint without query.
    """

    maps: Float[Array, "*t k h w"]
    joints: Float[Array, "*t k 2"]
    scores: Float[Array, "*t k"]


class Warper:
    """The compiled parts of the network with its weights.

    Args:
        config: tracking and the skeleton are read.
        trained: weights; None loads those that the config names.

    Raises:
        UserError: the weights cannot be read, or are of another network.
    """

    def __init__(self, config: ConfigDict, trained: weights.Weights | None = None):
        trained = trained or weights.load(config)
        tracking, keypoints = config.tracking, skeletons.of(config).keypoints
        net = network.of_joints(config, len(trained.keypoints))
        weights.check(trained.variables, shapes(net), tracking.weights or weights.SHIPPED)
        self.frames = tracking.max_age + 1
        self._sizes = (*(n for n in _SIZES if n < tracking.max_people), tracking.max_people)
        refined = tracking.refinement and weights.knows(trained, keypoints)
        odds = np.float32(tracking.odds)
        variables = jax.device_put(trained.variables)
        self._describe = functools.partial(_describe, net, variables)
        self._contexts = functools.partial(_contexts, net, variables)
        self._warp = functools.partial(_warp, net, refined, variables, odds)

    def describe(self, seen: Real[AnyArray, "h w c"]) -> Description:
        """Of one frame, by what is seen of it (`view.View`)."""
        return self._describe(seen[None])

    def nothing(self, seen: Description) -> Description:
        """A memory of `frames` frames like this one, all of them zeros."""
        return jax.tree.map(lambda x: jnp.zeros((self.frames, *x.shape[1:]), x.dtype), seen)

    def recall(self, features: Sequence[Float16[np.ndarray, "h w c"]]) -> Description:
        """A memory of the frames of these features: of one, or of up to `frames`."""
        size = 1 if len(features) == 1 else self.frames
        stacked = np.stack(features).astype(np.float32)
        return self._contexts(_pad(stacked, size))

    def warp(
        self,
        memory: Description,
        seen: Description,
        slots: Int[np.ndarray, " n"],
        joints: Float[np.ndarray, "n k 2"],
        valid: Bool[np.ndarray, "n k"],
    ) -> Warped:
        """People of remembered frames in the one described; rows from n on are padding.

        Args:
            memory: of `frames` frames.
            seen: the frame that is searched.
            slots: the frame of the memory where each person was last seen.
            joints: there, (x, y) in pixels of the view.
            valid: joints to look for.
        """
        size = padded(len(slots), self._sizes)
        slots, joints, valid = (_pad(x, size) for x in (slots, joints, valid))
        return self._warp(memory, seen, slots.astype(np.int32), joints.astype(np.float32), valid)

    def read(
        self, warped: Warped, joints: Float[np.ndarray, "d k 2"], count: int
    ) -> Float[np.ndarray, "{count} d k"]:
        """R of the first `count` people at given joints, each by the map of its own kind.

        Args:
            warped: of the frame of the joints.
            joints: (x, y) in pixels of the view; the nearest cell is read.
            count: people that are no padding.
        """
        found = _read(warped.maps, _pad(joints, padded(len(joints), self._sizes)))
        return np.asarray(found)[:count, : len(joints)]


@jax.jit
def remember(memory: Description, seen: Description, slot: int | Int[Array, ""]) -> Description:
    """The memory with the frame just seen in a slot."""
    return jax.tree.map(lambda kept, new: kept.at[slot].set(new[0]), memory, seen)


def padded(count: int, sizes: Sequence[int]) -> int:
    """The smallest of the rising sizes that holds `count`; beyond, the next multiple of 8."""
    return next((size for size in sizes if size >= count), -(-count // GROUP) * GROUP)


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])


@functools.partial(jax.jit, static_argnums=0)
def _describe(net: network.CorrespondenceNet, variables: dict, seen: Array) -> Description:
    return _contexts(net, variables, net.apply(variables, seen, method="describe"))


@functools.partial(jax.jit, static_argnums=0)
def _contexts(net: network.CorrespondenceNet, variables: dict, features: Array) -> Description:
    return Description(features, *net.apply(variables, features, method="contexts"))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _warp(
    net: network.CorrespondenceNet,
    refined: bool,
    variables: dict,
    odds: Float[Array, ""],
    memory: Description,
    seen: Description,
    slots: Int[Array, " t"],
    joints: Float[Array, "t k 2"],
    valid: Bool[Array, "t k"],
) -> Warped:
    """`Warper.warp` at one padded size."""

    def group(people: tuple[Array, Array, Array]) -> Warped:
        slots, joints, valid = people
        cells = cells_of(joints)
        asked = valid & inside(cells, *seen.features.shape[1:3])
        source = jnp.broadcast_to(slots[:, None], valid.shape)
        queries = query_windows(memory.features, source, cells)
        queries = jnp.where(asked[..., None], queries, 0)
        maps = net.apply(variables, queries, seen.features[0], method="affinity")
        if refined:
            logits = net.apply(variables, memory.as_a[slots], seen.as_b, maps, method="refine")
            maps = jnp.where(asked[..., None, None], jax.nn.sigmoid(logits + jnp.log(odds)), 0)
        else:
            maps = _mass(maps)
        return Warped(maps, *_highest(maps))

    groups = jax.tree.map(lambda x: x.reshape(-1, GROUP, *x.shape[1:]), (slots, joints, valid))
    found = jax.lax.map(group, groups)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)


def _mass(affinity: Float[Array, "t k h w"]) -> Float[Array, "t k h w"]:
    """What A has in the square about each cell."""
    window = (1, 1, _MASS, _MASS)
    return jax.lax.reduce_window(affinity, 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME")


def _highest(maps: Float[Array, "t k h w"]) -> tuple[Float[Array, "t k 2"], Float[Array, "t k"]]:
    """Where each map is largest, (x, y) in pixels of the view, and how large."""
    flat = maps.reshape(*maps.shape[:2], -1)
    cell = flat.argmax(-1)
    place = jnp.stack([cell % maps.shape[-1], cell // maps.shape[-1]], axis=-1)
    return STRIDE * place.astype(jnp.float32), flat.max(-1)


@jax.jit
def _read(maps: Float[Array, "t k h w"], joints: Float[Array, "d k 2"]) -> Float[Array, "t d k"]:
    """Maps at the cells nearest to joints; 0 outside."""
    height, width = maps.shape[2:]
    cells = jnp.round(joints / STRIDE).astype(jnp.int32)
    there = inside(cells, height, width)
    column, row = jnp.moveaxis(jnp.where(there[..., None], cells, 0), -1, 0)
    kind = jnp.broadcast_to(jnp.arange(maps.shape[1]), column.shape)
    return jnp.where(there, maps[:, kind, row, column], 0)
