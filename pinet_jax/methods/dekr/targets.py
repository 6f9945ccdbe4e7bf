"""Training targets: PINet's for the whole person as the one part, with DEKR's centres and areas."""

from typing import Any

from jaxtyping import Array, Float
from ml_collections import ConfigDict

from pinet_jax.data import AnyArray, Batch
from pinet_jax.methods.pinet.targets import Targets, part_centers, render
from pinet_jax.methods.shown_targets import ShownTargets


def person_area(
    keypoints: Float[AnyArray, "*n k 3"],
    boxes: Float[AnyArray, "*n 4"],
    segments: Float[AnyArray, "*n"],
    kind: str,
) -> Float[AnyArray, "*n"]:
    """What decides who owns a contested pixel, and the weights of the offsets.

    Args:
        keypoints: x, y in image pixels and v.
        boxes: x, y, width, height.
        segments: the annotations' own areas.
        kind: config.targets.area: "box" takes height^2 + width^2 (DEKR section 3.3),
            "released" what the released code makes of it, the squared distance of the farthest
            labelled x and y from the corner of the image; "segment" the annotation's area.
    """
    if kind == "segment":
        return segments
    if kind == "box":
        return (boxes[..., 2:] ** 2).sum(-1)
    labelled = keypoints[..., 2:] > 0
    return ((keypoints[..., :2] * labelled).max(-2) ** 2).sum(-1)


def targets_of(model: Any, batch: Batch, config: ConfigDict) -> Targets:
    """The targets of a batch (see pinet_jax/data.py)."""
    centers = person_centers(batch, config)
    persons = batch["keypoints"], centers, batch["area"], batch["region_mask"]
    return render(*persons, config.targets, config.targets.center_sigma)


def show_targets(batch: Batch, config: ConfigDict) -> ShownTargets:
    """The targets of a training batch as pictures show them."""
    targets = targets_of(None, batch, config)
    return ShownTargets(
        keypoint_heatmaps=targets.keypoint_heatmaps,
        part_heatmaps=targets.part_heatmaps,
        centers=person_centers(batch, config),
        offsets=targets.offsets,
        offset_weights=targets.offset_weights,
    )


def person_centers(batch: Batch, config: ConfigDict) -> Float[Array, "b p 1 3"]:
    """The mean of each person's labelled keypoints, those outside the map included.

    A person has none whose annotated area, before augmentation, is below targets.min_area.

    Returns:
        x, y in input pixels and v: 1 where there is a centre, else 0.
    """
    keypoints = batch["keypoints"]
    whole = (tuple(range(keypoints.shape[2])),)
    area = batch["annotation_area"] * (batch["area"] > 0)
    return part_centers(keypoints, area, whole, config.targets)
