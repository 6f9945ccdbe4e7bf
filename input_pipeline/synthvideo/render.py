"""Videos as arrays: the same seed, the same video."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8
from ml_collections import ConfigDict

from input_pipeline.synthcrowd import body
from input_pipeline.synthcrowd.background import sample_background
from input_pipeline.synthcrowd.render import (
    TILE,
    Outfits,
    annotate,
    film,
    picture,
    sample_outfits,
)
from input_pipeline.synthcrowd.scene import People, capsule_box, clip_box
from input_pipeline.synthvideo.kinds import KINDS, MOST_PAN, MOST_PEOPLE, Kind
from input_pipeline.synthvideo.motion import camera_x, people_at, sample_cast
from pinet_jax.errors import UserError

SPLITS = ("train", "val")  # disjoint families of videos


class Frames(NamedTuple):
    """F frames of a video and its P people, the same in every frame.

    Attributes:
        images: RGB.
        keypoints: COCO order; x, y and v: 2 seen, 1 hidden behind a body, 0 outside (0, 0).
        area: pixels of the silhouette in the picture; 0 for places without a person.
        boxes: x, y, width, height of the silhouette.
        heads: x, y, width, height of the head, also where it is outside.
    """

    images: UInt8[np.ndarray, "f s s 3"]
    keypoints: Float[np.ndarray, "f p 17 3"]
    area: Float[np.ndarray, "f p"]
    boxes: Float[np.ndarray, "f p 4"]
    heads: Float[np.ndarray, "f p 4"]


def videos(
    config: ConfigDict, kind: str, split: str, count: int, start: int = 0
) -> Iterator[Frames]:
    """Videos `start` to `start + count - 1` of a kind and split.

    Args:
        config: synthvideo and seed are read.
        kind: of `kinds.KINDS`.
        split: "train" or "val".
        count: of videos.
        start: number of the first.

    Raises:
        UserError: an unknown kind or split, or a size that cannot be rendered.
    """
    check(config, kind, split)
    size, length = config.synthvideo.image_size, config.synthvideo.frames
    render = _compiled(size)
    key = jax.random.key(config.seed)
    for fact in (SPLITS.index(split), list(KINDS).index(kind)):
        key = jax.random.fold_in(key, fact)
    for number in range(start, start + count):
        yield render(jax.random.fold_in(key, number), KINDS[kind], length)


def check(config: ConfigDict, kind: str, split: str) -> None:
    """UserError unless there are such videos."""
    for field, name, known in (("kind", kind, KINDS), ("split", split, SPLITS)):
        if name not in known:
            raise UserError(f"Synthetic videos have no {field} '{name}': use {', '.join(known)}.")
    size, length = config.synthvideo.image_size, config.synthvideo.frames
    if size <= 0 or size % TILE:
        raise UserError(f"config.synthvideo.image_size is {size}: give a multiple of {TILE}.")
    if length < 1:
        raise UserError(f"config.synthvideo.frames is {length}: give at least 1.")


@functools.cache
def _compiled(size: int) -> Callable[[PRNGKeyArray, Kind, int], Frames]:
    """The renderer of a video, compiled once for frames of a size and any kind and length."""
    one = jax.jit(functools.partial(_frame, size=size))
    backdrop = jax.jit(functools.partial(_backdrop, size=size))

    def render(key: PRNGKeyArray, kind: Kind, length: int) -> Frames:
        background = backdrop(key)
        frames = (one(key, kind, background, time) for time in np.arange(length, dtype=np.int32))
        return Frames(
            *(np.stack(arrays) for arrays in zip(*map(jax.device_get, frames), strict=True))
        )

    return render


def _margin(size: int) -> int:
    """Pixels of background beyond the picture on either side, for the camera to swing to."""
    return math.ceil(MOST_PAN * size)


def _backdrop(key: PRNGKeyArray, size: int) -> Float[Array, "m m 3"]:
    return sample_background(_key(key, "background"), size + 2 * _margin(size))


def _frame(
    key: PRNGKeyArray, kind: Kind, background: Float[Array, "m m 3"], time: Array, size: int
) -> Frames:
    """One frame, without the axis of frames."""
    cast = sample_cast(_key(key, "cast"), kind, size)
    people = people_at(cast, time.astype(jnp.float32), size)
    margin = _margin(size)
    corner = (margin, margin + jnp.int32(camera_x(cast, time.astype(jnp.float32))), 0)
    behind = jax.lax.dynamic_slice(background, corner, (size, size, 3))
    outfits = _outfits(_key(key, "outfits"), kind)
    image, area = picture(_key(key, "light"), people, outfits, behind)
    noise = jax.random.fold_in(_key(key, "noise"), time)
    return Frames(
        film(_key(key, "film"), noise, image),
        annotate(people, size),
        jnp.where(people.valid, area, 0),
        _corner_and_size(clip_box(people.boxes, size)) * people.valid[:, None],
        _corner_and_size(_head_boxes(people)) * people.valid[:, None],
    )


def _key(key: PRNGKeyArray, what: str) -> PRNGKeyArray:
    parts = ("background", "cast", "outfits", "light", "film", "noise")
    return jax.random.fold_in(key, parts.index(what))


def _outfits(key: PRNGKeyArray, kind: Kind) -> Outfits:
    """What everybody wears; all the same as the first where the kind says so."""
    several = sample_outfits(key, MOST_PEOPLE)

    def first(values: Array) -> Array:
        own = values.reshape(MOST_PEOPLE, -1, *values.shape[1:])
        same = jnp.broadcast_to(own[:1], own.shape).reshape(values.shape)
        return jnp.where(jnp.asarray(kind.alike) > 0, same, values)

    return jax.tree.map(first, several)


def _head_boxes(people: People) -> Float[Array, "p 4"]:
    boxes = capsule_box(jax.tree.map(lambda a: a[:, body.HEAD_CAPSULES], people.capsules))
    return jnp.concatenate([boxes[..., :2].min(1), boxes[..., 2:].max(1)], -1)


def _corner_and_size(boxes: Float[Array, "p 4"]) -> Float[Array, "p 4"]:
    return jnp.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)
