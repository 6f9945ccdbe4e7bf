"""How people were found: proposals, their refinement and fusion; score maps."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float

from pinet_jax.data import RgbImage
from pinet_jax.inference.inspection import Inspection
from pinet_jax.skeletons import Parts, Skeleton
from pinet_jax.visualize.canvas import grid, pad, resized, scaled_points, titled
from pinet_jax.visualize.people import MIN_KEYPOINT_SCORE, MIN_SCORE, Poses, draw_poses

PANEL = 640  # pixels of a panel's long side
MAP_PANEL = 400
GAP = 10
TITLE = 18  # pixels


def parts_page(
    image: RgbImage,
    inspection: Inspection,
    parts: Parts,
    skeleton: Skeleton,
    min_score: float = MIN_SCORE,
    min_keypoint_score: float = MIN_KEYPOINT_SCORE,
) -> RgbImage:
    """What every part proposed, that refined, and the fused people (PINet Fig. 4).

    One column a part: its proposals above, the same refined below, a cross at the part
    centre; in the last column the image above and the people below. A proposal has the
    colour of the person it became part of.

    Args:
        image: RGB.
        inspection: of the image.
        parts: the model's body partition.
        skeleton: of the keypoints.
        min_score: people below it, and their proposals, are left out.
        min_keypoint_score: keypoints below it are left out.

    Returns:
        RGB, of a size that depends on the image's alone.
    """
    factor = PANEL / max(image.shape[:2])
    panel = resized(image, factor)
    found, person, people = inspection.candidates, inspection.person, inspection.people
    drawn = np.flatnonzero(people.scores >= min_score)

    def draw(poses, scores, person, centers=None, labels=None) -> RgbImage:
        shown = scores >= min_keypoint_score
        labels = [""] * len(poses) if labels is None else labels
        points = scaled_points(poses, factor)
        centers = None if centers is None else scaled_points(centers, factor)
        order = np.argsort(-person, kind="stable")
        return draw_poses(
            panel, Poses(points, shown, shown, order, labels, person, centers), skeleton
        )

    proposed, refined = [], []
    for index, part in enumerate(parts):
        of = np.flatnonzero((found.part == index) & np.isin(person, drawn))
        rest = found.keypoint_scores[of], person[of], found.centers[of]
        name = _part_name(index, part, skeleton)
        proposed.append(titled(draw(found.proposals[of], *rest), f"{name}: proposed", TITLE))
        refined.append(titled(draw(found.poses[of], *rest), f"{name}: refined", TITLE))
    labels = [f"{people.scores[i]:.2f}" for i in drawn]
    fused = draw(people.keypoints[drawn], people.keypoint_scores[drawn], drawn, labels=labels)
    panels = [*proposed, titled(panel, "image", TITLE), *refined, titled(fused, "people", TITLE)]
    return _page(panels, len(parts) + 1)


def heatmaps_page(
    image: RgbImage, inspection: Inspection, parts: Parts, skeleton: Skeleton
) -> RgbImage:
    """The score maps of every part and keypoint over the image, dark 0, bright 1.

    Those of several scales are averaged.

    Args:
        image: RGB.
        inspection: of the image.
        parts: the model's body partition.
        skeleton: of the keypoints.

    Returns:
        RGB, of a size that depends on the image's alone.
    """
    factor = MAP_PANEL / max(image.shape[:2])
    panel = resized(image, factor)
    groups = {
        **{
            _part_name(index, part, skeleton): (inspection.part_heatmaps, index)
            for index, part in enumerate(parts)
        },
        **{
            name.replace("_", " "): (inspection.keypoint_heatmaps, index)
            for index, name in enumerate(skeleton.keypoints)
        },
    }
    panels = [
        titled(
            _glow(panel, [m[..., index] for m in maps], inspection.map_to_image, factor),
            name,
            TITLE,
        )
        for name, (maps, index) in groups.items()
    ]
    return _page(panels, math.ceil(math.sqrt(1.5 * len(panels))))


def _glow(
    panel: RgbImage,
    heatmaps: Sequence[Float[np.ndarray, "_ _"]],
    map_to_image: Sequence[Float[np.ndarray, "2 3"]],
    factor: float,
) -> RgbImage:
    """The mean of heatmaps, each in its own frame, over the darkened panel."""
    size = panel.shape[1::-1]
    warped = []
    for heatmap, affine in zip(heatmaps, map_to_image, strict=True):
        to_panel = np.array(affine, np.float64) * factor
        to_panel[:, 2] += (factor - 1) / 2  # as scaled_points
        warped.append(cv2.warpAffine(np.asarray(heatmap, np.float32), to_panel, size))
    score = np.clip(np.mean(warped, axis=0), 0, 1)
    colors = cv2.applyColorMap(np.uint8(255 * score), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = np.sqrt(score)[..., None]
    return np.uint8(0.5 * (1 - weight) * panel + weight * colors)


def _part_name(index: int, part: Sequence[int], skeleton: Skeleton) -> str:
    first = skeleton.keypoints[part[0]].replace("_", " ")
    more = f" and {len(part) - 1} more" if len(part) > 1 else ""
    return f"part {index + 1} ({first}{more})"


def _page(panels: Sequence[RgbImage], columns: int) -> RgbImage:
    return pad(grid(panels, columns, GAP), GAP, GAP, GAP, GAP)
