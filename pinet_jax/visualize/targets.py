"""Pictures of training samples: what the network sees, and what it shall answer.

A row is a sample. Its panels are the input with the labelled people; the keypoint heatmaps;
the part heatmaps with the part centres; and for each part the pixels that regress a pose, with
lines to the keypoints that their offsets point at, or the heatmaps of one person each.
Coordinates are input pixels: map pixel (i, j) is drawn about input pixel (4i, 4j).
"""

import colorsys
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons, visualize
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.config import with_fields
from pinet_jax.data import HOST_KEYS, Data
from pinet_jax.errors import UserError
from pinet_jax.methods.randomness import image_keys
from pinet_jax.methods.shown_targets import ShownTargets
from pinet_jax.visualize import figures

PANEL_INCHES = 4.2
DIMMED = 0.45  # brightness of the input under maps
SAME_POINT = 0.01  # heatmap pixels; further apart two keypoints are not the same
_NO_LOSS = (1.0, 0.1, 0.1)


@dataclasses.dataclass(frozen=True)
class Sample:
    """A training sample with its targets, on the host.

    Attributes:
        image: RGB.
        keypoints: x, y in input pixels and v, of its persons without padding.
        region_mask: False where the heatmap loss does not look.
        targets: of it alone, with the part centres of these persons.
        caption: what is written beside it.
    """

    image: UInt8[np.ndarray, "side side 3"]
    keypoints: Float[np.ndarray, "p k 3"]
    region_mask: Bool[np.ndarray, "m m"]
    targets: ShownTargets
    caption: str


def first_samples(
    config: ConfigDict, count: int, open_data: Callable[[ConfigDict], Data]
) -> list[Sample]:
    """The first `count` samples that a training with this config and seed would see.

    Args:
        config: of the training; its batch size does not matter.
        count: of samples.
        open_data: makes the data of a config.

    Raises:
        UserError: as for the training's data.
    """
    config = with_fields(config, {"train.batch_size": count})
    return samples(next(open_data(config).train_batches(0)), config)


def samples(batch: Mapping[str, np.ndarray], config: ConfigDict) -> list[Sample]:
    """A training batch's samples with the targets that the loss compares with.

    Raises:
        UserError: the method has no targets that can be drawn.
    """
    method = methods.of(config)
    if not hasattr(method, "show_targets"):
        raise UserError(
            f"config.model.method: the targets of '{config.model.method}' have no picture: "
            "look at the samples with another method's config."
        )
    show = jax.jit(functools.partial(method.show_targets, config=config))
    rows = len(batch["image"])
    keys = image_keys(config.seed, 0, np.arange(rows))  # as of a training's first step
    return [
        _sample({k: np.asarray(v[i]) for k, v in batch.items()}, keys[i], show) for i in range(rows)
    ]


def _sample(example: Mapping[str, np.ndarray], key: jax.Array, show: Callable) -> Sample:
    # One at a time: offset maps of many would fill the memory.
    batch = {name: example[name][None] for name in example if name not in HOST_KEYS}
    targets = jax.tree.map(lambda x: np.asarray(x[0]), show(batch | {"key": key[None]}))
    persons = example["area"] > 0
    if targets.person_heatmaps is not None:
        targets = targets.replace(person_heatmaps=targets.person_heatmaps[persons])
    return Sample(
        image=example["image"],
        keypoints=example["keypoints"][persons],
        region_mask=example["region_mask"],
        targets=targets.replace(centers=targets.centers[persons]),
        caption=_caption(example, int(persons.sum())),
    )


def _caption(example: Mapping[str, np.ndarray], count: int) -> str:
    people = "1 person" if count == 1 else f"{count} people"
    dropped = int(example["num_dropped"])
    return f"image {int(example['image_id'])}: {people}" + (f", {dropped} dropped" * (dropped > 0))


def owned_pixels(
    keypoints: Float[np.ndarray, "p k 3"],
    offsets: Float[np.ndarray, "h w k 2"],
    weights: Float[np.ndarray, "h w k"],
) -> Bool[np.ndarray, "p h w"]:
    """Which pixels of one part's offset maps point at which person.

    Args:
        keypoints: x, y in heatmap pixels and v.
        offsets: pixel minus keypoint, (x, y) in heatmap pixels.
        weights: of the offsets; 0 where there is none.
    """
    height, width = weights.shape[:2]
    pixel = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    target = pixel[:, :, None] - offsets
    used = weights > 0
    return np.array(
        [
            used.any(-1) & (~used | (np.abs(target - person[:, :2]).max(-1) < SAME_POINT)).all(-1)
            for person in keypoints
        ],
        bool,
    ).reshape(-1, height, width)


def picture(
    rows: Sequence[Sample], skeleton: skeletons.Skeleton, parts: skeletons.Parts
) -> UInt8[np.ndarray, "h w 3"]:
    """The samples below each other, RGB.

    Args:
        rows: at least one.
        skeleton: of their keypoints.
        parts: keypoint indices of each part that their targets are of.
    """
    columns = 3 + len(parts)
    figure = figures.figure(PANEL_INCHES * columns, (PANEL_INCHES + 0.35) * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for panels, sample in zip(grid, rows, strict=True):
        _draw_input(panels[0], sample, skeleton)
        _draw_keypoint_heatmaps(panels[1], sample)
        _draw_part_heatmaps(panels[2], sample)
        if sample.targets.person_heatmaps is not None:
            _draw_persons(panels[3], sample)
            continue
        for s, part in enumerate(parts):
            _draw_offsets(panels[3 + s], sample, s, [skeleton.keypoints[k] for k in part])
    return figures.rendered(figure)


def _draw_input(axes, sample: Sample, skeleton: skeletons.Skeleton) -> None:
    drawing = visualize.draw_truth(sample.image, sample.keypoints, skeleton)
    title = sample.caption + ("" if sample.region_mask.all() else " (red: no loss)")
    _panel(axes, drawing, sample, title)
    _overlay(axes, sample, _NO_LOSS, 0.5 * ~sample.region_mask)


def _draw_keypoint_heatmaps(axes, sample: Sample) -> None:
    _panel(axes, _dimmed(sample.image), sample, "keypoint heatmaps")
    _draw_heatmaps(axes, sample, sample.targets.keypoint_heatmaps)


def _draw_part_heatmaps(axes, sample: Sample) -> None:
    _panel(axes, _dimmed(sample.image), sample, "part heatmaps, + part centres")
    _draw_heatmaps(axes, sample, sample.targets.part_heatmaps)
    for s, color in enumerate(_colors(sample.targets.centers.shape[1])):
        x, y, v = sample.targets.centers[:, s].T
        axes.scatter(x[v > 0], y[v > 0], s=70, marker="+", color="white", linewidths=2.6)
        axes.scatter(x[v > 0], y[v > 0], s=50, marker="+", color=color, linewidths=1.2)


def _draw_persons(axes, sample: Sample) -> None:
    """The heatmaps of one person alone in the person's colour, a cross where it is read."""
    _panel(axes, _dimmed(sample.image), sample, "heatmaps of one person each, + where it is read")
    targets = sample.targets
    for person in np.flatnonzero(targets.centers[:, 0, 2]):
        color = np.array(visualize.person_color(person)) / 255
        _overlay(axes, sample, color, targets.person_heatmaps[person])
        x, y, _ = targets.centers[person, 0]
        axes.scatter(x, y, s=70, marker="+", color="white", linewidths=2.6)
        axes.scatter(x, y, s=50, marker="+", color=color, linewidths=1.2)


def _draw_offsets(axes, sample: Sample, s: int, names: Sequence[str]) -> None:
    """Lines from each person's owned pixels to where their offsets point."""
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    _panel(axes, _dimmed(sample.image), sample, f"offsets of part {s + 1}: {shown}")
    keypoints = sample.keypoints / np.array([HEATMAP_STRIDE, HEATMAP_STRIDE, 1])
    offsets, weights = sample.targets.offsets[:, :, s], sample.targets.offset_weights[:, :, s]
    for person, owned in enumerate(owned_pixels(keypoints, offsets, weights)):
        if owned.any():
            color = np.array(visualize.person_color(person)) / 255
            _overlay(axes, sample, color, 0.7 * owned)
            _draw_offset_lines(axes, offsets, weights, owned, color)


def _draw_offset_lines(axes, offsets, weights, owned, color) -> None:
    """From the owned pixel nearest to the middle of all."""
    pixels = np.argwhere(owned)
    y, x = min(pixels, key=lambda pixel: np.sum((pixel - pixels.mean(0)) ** 2))
    used = weights[y, x] > 0
    ends = (np.array([x, y]) - offsets[y, x][used]) * HEATMAP_STRIDE
    start = np.broadcast_to([x * HEATMAP_STRIDE, y * HEATMAP_STRIDE], ends.shape)
    for line_width, line_color in ((2.2, "black"), (1.1, color)):
        axes.plot(*np.stack([start, ends]).transpose(2, 0, 1), color=line_color, lw=line_width)
    axes.scatter(*ends.T, s=14, color=color, edgecolors="black", linewidths=0.6, zorder=3)


def _draw_heatmaps(axes, sample: Sample, heatmaps: Float[np.ndarray, "m m n"]) -> None:
    """Each channel in its colour; of several the highest shows."""
    highest = heatmaps.argmax(-1)
    _overlay(axes, sample, np.array(_colors(heatmaps.shape[-1]))[highest], heatmaps.max(-1))


def _panel(axes, background: np.ndarray, sample: Sample, title: str) -> None:
    """A panel in input pixels, whose pixel centres are at whole coordinates."""
    height, width = sample.image.shape[:2]
    axes.imshow(background, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=(), yticks=())
    axes.set_title(title, fontsize=9, loc="left")


def _overlay(axes, sample: Sample, color, alpha: Float[np.ndarray, "m m"]) -> None:
    """A map of colours [m, m, 3], or of one colour, over the input."""
    height, width = alpha.shape
    rgba = np.concatenate([np.broadcast_to(color, (*alpha.shape, 3)), alpha[..., None]], axis=-1)
    half = HEATMAP_STRIDE / 2
    extent = (-half, width * HEATMAP_STRIDE - half, height * HEATMAP_STRIDE - half, -half)
    axes.imshow(rgba, extent=extent, interpolation="nearest")
    side = sample.image.shape[0]
    axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))


def _dimmed(image: UInt8[np.ndarray, "s s 3"]) -> UInt8[np.ndarray, "s s 3"]:
    return np.round(DIMMED * image).astype(np.uint8)


def _colors(count: int) -> list[tuple[float, float, float]]:
    """Hues as far apart as so many can be."""
    return [colorsys.hsv_to_rgb(i / count, 0.85, 1.0) for i in range(count)]
