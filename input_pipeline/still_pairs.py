"""Pairs of views of one still image, for training correspondences (TRACKING.md, section 2).

A person's surroundings are cut out twice, each time turned, scaled, moved, coloured and partly
covered anew: every joint's true place in the second view is known, without any video.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from ml_collections import ConfigDict

from input_pipeline.synthcrowd import stream
from pinet_jax.errors import UserError
from pinet_jax.runtime.progress import Progress
from pinet_jax.tracking.correspondences.losses import Pairs

SEEN = 2  # v of a joint that is not hidden
_CHUNK = 16  # scenes rendered at a time
_TRIES = 1000  # images drawn before there seems to be none with people
_PAIR, _CHECK = 0, 1  # independent random streams of one seed


class Still(NamedTuple):
    """An image with its people: x, y, v of joints and boxes x, y, width, height, in pixels."""

    image: UInt8[np.ndarray, "h w 3"]
    keypoints: Float[np.ndarray, "n k 3"]
    boxes: Float[np.ndarray, "n 4"]


Stills = Sequence[Still]


class View(NamedTuple):
    """A crop of a still: RGB, pixels of the still to its own, and the covered x0, y0, x1, y1."""

    image: UInt8[np.ndarray, "s s 3"]
    matrix: Float[np.ndarray, "2 3"]
    covered: Float[np.ndarray, " 4"]


def synthetic(config: ConfigDict, split: str, count: int) -> list[Still]:
    """The first `count` scenes of the synthetic crowd's "train" or "val", rendered now."""
    stream.check(config)
    render, stills = stream.renderer(config), []
    with Progress(count, f"render {split}") as progress:
        for start in range(0, count, _CHUNK):
            scenes = [np.asarray(x) for x in render(split, np.arange(start, start + _CHUNK))]
            for image, keypoints, area, boxes in zip(*scenes, strict=True):
                stills.append(Still(image, keypoints[area > 0], boxes[area > 0]))
            progress.update(min(_CHUNK, count - start))
    return stills[:count]


class Annotated(Sequence):
    """The images of a dataset on disk that have people, read when asked for."""

    def __init__(self, config: ConfigDict, split: str):
        from input_pipeline.storage import splits  # TensorFlow: only where a dataset is read

        self._split = splits.open_split(config, split)
        least = config.stills.min_joints
        self._numbers = np.flatnonzero(self._split.index.num_keypoints >= least)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Still:
        example = self._split[int(self._numbers[number])]
        return Still(example.image, example.keypoints, example.bbox)


def batches(config: ConfigDict, kinds: Sequence[Stills], start_step: int) -> Iterator[Pairs]:
    """Endless training batches of config.train.batch_size pairs, from `start_step` on.

    Pair number p of the whole training is drawn from (seed, p), so that nothing has to be
    replayed to resume.

    Args:
        config: stills, train.batch_size and seed are read.
        kinds: synthetic stills and, where there are, those of a dataset.

    Raises:
        UserError: no still has a person that can be cropped.
    """
    size, step = config.train.batch_size, start_step
    while True:
        yield _batch(config, kinds, range(step * size, (step + 1) * size), _PAIR)
        step += 1


def held_out(config: ConfigDict, stills: Stills, count: int) -> Iterator[Pairs]:
    """`count` pairs to check on, in batches, the same ones each time."""
    size = config.train.batch_size
    for start in range(0, count - size + 1, size):
        yield _batch(config, [stills], range(start, start + size), _CHECK)


def _batch(config: ConfigDict, kinds: Sequence[Stills], numbers: range, purpose: int) -> Pairs:
    pairs = [
        _draw(config, kinds, np.random.default_rng((config.seed, purpose, n))) for n in numbers
    ]
    return Pairs(*(np.stack(column) for column in zip(*pairs, strict=True)))


def _draw(config: ConfigDict, kinds: Sequence[Stills], rng: np.random.Generator) -> tuple:
    stills = kinds[int(len(kinds) > 1 and rng.random() >= config.stills.synthetic)]
    for _ in range(_TRIES):
        still = stills[int(rng.integers(len(stills)))] if len(stills) else None
        who = _to_crop(still, config.stills) if still else []
        if len(who):
            return make_pair(still, int(rng.choice(who)), config.stills, rng)
    raise UserError(
        f"No still has a person with {config.stills.min_joints} seen joints in a box of "
        f"{config.stills.min_side:g} pixels: lower --config.stills.min_joints or "
        "--config.stills.min_side, or give other data."
    )


def _to_crop(still: Still, settings: ConfigDict) -> np.ndarray:
    """Numbers of the people that are large and seen enough to be cropped."""
    seen = (still.keypoints[..., 2] == SEEN).sum(1) >= settings.min_joints
    return np.flatnonzero(seen & (still.boxes[:, 2:].max(1, initial=0) >= settings.min_side))


def make_pair(still: Still, person: int, settings: ConfigDict, rng: np.random.Generator) -> tuple:
    """One pair, as the fields of `Pairs` without their leading axis.

    Args:
        still: image and people.
        person: number of the one that is cropped; the largest others are asked with it.
        settings: config.stills.
        rng: decides everything.
    """
    box = still.boxes[person]
    factor = np.exp(rng.uniform(*np.log(settings.crop)))
    center, side = box[:2] + box[2:] / 2, box[2:].max() * factor
    view_a = make_view(still.image, center, side, False, settings, rng)
    flip = bool(rng.random() < settings.flip)
    view_b = make_view(still.image, center, side, flip, settings, rng)
    asked = _slots(still, person, settings.people)
    points, seen = asked[..., :2], asked[..., 2] == SEEN
    queries, targets = _move(points, view_a.matrix), _move(points, view_b.matrix)
    valid = seen & _shown(queries, view_a)
    positive = valid & _shown(targets, view_b)
    return view_a.image, view_b.image, queries, targets, valid, positive


def make_view(
    image: UInt8[np.ndarray, "h w 3"],
    center: Float[np.ndarray, " 2"],
    side: float,
    flip: bool,
    settings: ConfigDict,
    rng: np.random.Generator,
) -> View:
    """A random view of the square of that center and side, in pixels of the image."""
    size = settings.view_size
    angle = np.deg2rad(rng.uniform(-settings.rotation, settings.rotation))
    zoom = rng.uniform(*settings.scale) * size / side
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = rng.uniform(-settings.shift, settings.shift, 2) * size
    matrix = np.column_stack([zoom * turn, size / 2 + shift - zoom * turn @ center])
    if flip:
        matrix[0] *= -1
        matrix[0, 2] += size - 1
    view = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    view, covered = _cover(view, settings, rng)
    return View(_recolour(view, settings, rng), matrix, covered)


def _cover(
    view: UInt8[np.ndarray, "s s 3"], settings: ConfigDict, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "s s 3"], Float[np.ndarray, " 4"]]:
    """A rectangle of the view covered with another of it."""
    size = len(view)
    width, height = np.round(rng.uniform(*settings.patch, 2) * size).astype(int)
    x, from_x = rng.integers(0, size - width + 1, 2)
    y, from_y = rng.integers(0, size - height + 1, 2)
    covered = view.copy()
    covered[y : y + height, x : x + width] = view[from_y : from_y + height, from_x : from_x + width]
    return covered, np.array([x, y, x + width, y + height], float)


def _recolour(
    view: UInt8[np.ndarray, "s s 3"], settings: ConfigDict, rng: np.random.Generator
) -> UInt8[np.ndarray, "s s 3"]:
    """Brightness, contrast, colour cast and sensor noise."""
    bright, contrast = (
        1 + rng.uniform(-spread, spread) for spread in (settings.brightness, settings.contrast)
    )
    cast = 1 + rng.uniform(-settings.colour, settings.colour, 3)
    seen = view.astype(np.float32)
    mean = seen.mean()
    seen = (mean + contrast * (seen - mean)) * (bright * cast).astype(np.float32)
    seen += 255 * settings.noise * rng.standard_normal(seen.shape, np.float32)
    return np.clip(np.round(seen), 0, 255).astype(np.uint8)


def _slots(still: Still, person: int, count: int) -> Float[np.ndarray, "p k 3"]:
    """Joints of the person and of the largest others, zeros where there are too few."""
    size = still.boxes[:, 2:].prod(1)
    size[person] = np.inf
    chosen = still.keypoints[np.argsort(-size, kind="stable")[:count]]
    return np.pad(chosen, ((0, count - len(chosen)), (0, 0), (0, 0)))


def _move(points: Float[np.ndarray, "*n 2"], matrix: Float[np.ndarray, "2 3"]) -> np.ndarray:
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _shown(points: Float[np.ndarray, "*n 2"], view: View) -> Bool[np.ndarray, "*n"]:
    """Points inside the view and not under its rectangle."""
    low, high = view.covered[:2], view.covered[2:]
    inside = np.all((points >= 0) & (points < len(view.image)), axis=-1)
    return inside & ~np.all((points >= low - 0.5) & (points < high - 0.5), axis=-1)
