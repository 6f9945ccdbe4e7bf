"""An endless stream of training batches, rendered on the device."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32
from ml_collections import ConfigDict, FrozenConfigDict

from input_pipeline import augment
from input_pipeline.synthcrowd.render import TILE, Scene, render_scene
from pinet_jax import methods, skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.errors import UserError
from pinet_jax.runtime import devices
from pinet_jax.runtime.programs import Program, in_words

SPLITS = ("train", "val")  # disjoint families of scenes; the stream is of the first


def batches(
    config: ConfigDict,
    batch_size: int,
    start_step: int,
    host_index: int = 0,
    host_count: int = 1,
) -> Iterator[dict[str, Array | np.ndarray]]:
    """Endless training batches from `start_step` on.

    Example i of step t is scene t * batch_size + i of `config.seed`: nothing has to be
    replayed to resume, and hosts only share the scenes out.

    Args:
        config: synthcrowd, dataset, model.method, targets.area, train.input_size and seed are
            read.
        batch_size: examples a step over all hosts.
        start_step: steps that are done already.
        host_index: which share of every batch is rendered.
        host_count: number of equal shares.

    Yields:
        This host's share of each batch, see pinet_jax/data.py; region_mask is all True.

    Raises:
        UserError: numbers that make no scene or no batch.
    """
    check(config)
    _check_stream(config, batch_size, host_count)
    size, share = config.synthcrowd.image_size, batch_size // host_count
    render = renderer(config)
    side = size // HEATMAP_STRIDE
    mask = np.ones((share, side, side), bool)
    of_pack = in_words(config.dataset.max_persons, config.targets.area, config.model.method)
    pack = Program("pack", jax.jit(lambda scenes: _pack(scenes, config)), of_pack)
    step = start_step
    while True:
        first = step * batch_size + host_index * share
        numbers = np.arange(first, first + share)
        scenes = render("train", numbers)
        persons, dropped = pack(scenes)
        yield {
            "image": scenes.image,
            **persons,
            "region_mask": mask,
            "image_id": numbers,
            "num_dropped": np.asarray(dropped),
        }
        step += 1


def renderer(config: ConfigDict) -> Callable[[str, Int[np.ndarray, " b"]], Scene]:
    """A function from a split and scene numbers (0 up to 2^32 - 1) to the scenes, stacked.

    It compiles once for every length of the numbers.
    """
    crowd = FrozenConfigDict(config.synthcrowd)

    def scenes(split: str, numbers: Int[np.ndarray, " b"]) -> Scene:
        key = jax.random.fold_in(jax.random.key(config.seed), SPLITS.index(split))
        return _program(crowd, len(numbers))(key, numbers.astype(np.uint32))

    return scenes


@functools.cache
def _program(crowd: FrozenConfigDict, count: int) -> Program:
    """The renderer of `count` numbered scenes, the same for the same numbers of the config."""

    @jax.jit
    def render(key: PRNGKeyArray, numbers: UInt32[Array, " b"]) -> Scene:
        def one(number: UInt32[Array, ""]) -> Scene:
            return render_scene(jax.random.fold_in(key, number), crowd)

        return jax.lax.map(one, numbers, batch_size=devices.at_once(count))

    return Program("render", render, in_words(crowd))


def check(config: ConfigDict) -> None:
    """UserError if the synthcrowd numbers make no scene."""
    crowd = config.synthcrowd
    fewest, most = crowd.people
    low, high = crowd.height
    skeleton = skeletons.of(config)
    facts = {
        "image_size": (
            crowd.image_size > 0 and crowd.image_size % TILE == 0,
            f"a multiple of {TILE}",
        ),
        "people": (0 <= fewest <= most and most > 0, "fewest and most people, the most at least 1"),
        "pair_iou": (0 <= crowd.pair_iou < 1, "at least 0 and below 1"),
        "height": (0 < low <= high, "smallest and largest height, above 0"),
        "num_train": (crowd.num_train > 0, "at least 1"),
        "num_val": (crowd.num_val > 0, "at least 1"),
        "yaw": (0 <= crowd.yaw <= 180, "between 0 and 180 degrees"),
    }
    for field, (right, wanted) in facts.items():
        if not right:
            raise UserError(f"config.synthcrowd.{field} is {crowd[field]}: give {wanted}.")
    if skeleton.keypoints != skeletons.COCO.keypoints:
        raise UserError(
            f"config.dataset.skeleton is '{skeleton.name}', but synthetic people have COCO "
            "keypoints: set --config.dataset.skeleton=coco."
        )


def _check_stream(config: ConfigDict, batch_size: int, host_count: int) -> None:
    size = config.synthcrowd.image_size
    if config.train.input_size != size:
        raise UserError(
            f"config.train.input_size is {config.train.input_size} and "
            f"config.synthcrowd.image_size {size}: the stream needs them equal."
        )
    if batch_size % host_count:
        raise UserError(
            f"config.train.batch_size: {batch_size} is no multiple of the {host_count} hosts; "
            "change --config.train.batch_size."
        )


def _pack(scenes: Scene, config: ConfigDict) -> tuple[dict[str, Array], Int[Array, " b"]]:
    """What a batch says of the largest persons, in their slots; how many found none."""
    slots, kind = config.dataset.max_persons, config.targets.area
    areas = methods.of(config).person_area(scenes.keypoints, scenes.boxes, scenes.area, kind)
    order = jnp.argsort(-areas, axis=1)[:, :slots]

    def pack(rows: Float[Array, "b n *m"]) -> Float[Array, "b p *m"]:
        kept = jax.vmap(lambda rows, order: rows[order])(rows, order)
        return jnp.pad(kept, ((0, 0), (0, slots - order.shape[1]), *((0, 0),) * (rows.ndim - 2)))

    persons = {
        "keypoints": pack(scenes.keypoints),
        "area": pack(areas),
        "annotation_area": pack(scenes.area),
        "corners": pack(augment.box_corners(scenes.boxes)),
    }
    dropped = jnp.sum(areas > 0, axis=1) - jnp.sum(persons["area"] > 0, axis=1)
    return persons, dropped.astype(jnp.int32)
