"""From image files and a COCO JSON to PINet's three losses: slow, obvious NumPy.

Written from the method's description alone, in the order of its sentences, with none of the
library's functions: one image, one person, one pixel after the other, in float64. Only
OpenCV's `warpAffine` is shared. `test_first_step.py` holds the library beside it.
"""

import dataclasses
import json
import math
import pathlib

import cv2
import numpy as np

STRIDE = 4
SIGMA = 2.0
BACKGROUND = 0.1
SMALLEST = 32.0**2
BETA = 1 / 9
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
FLIPPED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)  # COCO's left and right
PARTS = ((0, 1, 2, 3, 4), (5, 6, 11, 12), (11, 12, 13, 14, 15, 16))  # head, body, foot


@dataclasses.dataclass(frozen=True)
class Person:
    """Somebody trained on, in the crop."""

    keypoints: np.ndarray  # [17, 3]: x, y in input pixels, v
    area: float  # input pixels squared


@dataclasses.dataclass(frozen=True)
class Crop:
    """What the network sees of an image, and who is in it."""

    image: np.ndarray  # [S, S, 3], uint8 RGB
    people: list[Person]  # in the order of the file
    mask: np.ndarray  # [M, M], 1 where the heatmap loss looks


@dataclasses.dataclass(frozen=True)
class Targets:
    """Maps of one crop; n is the keypoints and behind them the parts."""

    heatmaps: np.ndarray  # [M, M, n]
    mask: np.ndarray  # [M, M, n]
    offsets: np.ndarray  # [M, M, parts, 17, 2]
    weights: np.ndarray  # [M, M, parts, 17]
    contested: int  # pixels near the part centres of several people


def trained_on(path: pathlib.Path, fewest: int) -> set[int]:
    """Ids of the images whose people have `fewest` labelled keypoints together."""
    content = json.loads(path.read_text())
    labelled = {image["id"]: 0 for image in content["images"]}
    for annotation in content["annotations"]:
        labelled[annotation["image_id"]] += sum(v > 0 for v in annotation["keypoints"][2::3])
    return {image_id for image_id, count in labelled.items() if count >= fewest}


# ---- The crop


def matrix_of(augmentation, height: int, width: int, size: int) -> np.ndarray:
    """Image pixels to input pixels, [2, 3]: a square about the image's centre, turned."""
    side = augmentation.scale * min(height, width)
    center = [
        int(length / 2 + 0.5) + side * moved / 200
        for length, moved in zip((width, height), augmentation.translation, strict=True)
    ]
    matrix = cv2.getRotationMatrix2D(center, augmentation.rotation, size / side)
    matrix[:, 2] += size / 2 - np.array(center)
    if augmentation.flip:
        matrix = np.array([[-1, 0], [0, 1]]) @ matrix + np.array([[0, 0, size - 1], [0, 0, 0]])
    return matrix


def crop_of(path, folder, image_id, augmentation, size, area="box", mask_outside=True) -> Crop:
    """One image of the JSON at `path`, whose files lie in `folder`."""
    content = json.loads(path.read_text())
    (name,) = [image["file_name"] for image in content["images"] if image["id"] == image_id]
    pixels = cv2.imread(str(folder / name))[..., ::-1]
    height, width = pixels.shape[:2]
    matrix = matrix_of(augmentation, height, width, size)
    people, ignored = [], np.zeros((height, width), np.uint8)
    for annotation in content["annotations"]:
        if annotation["image_id"] != image_id:
            continue
        points = np.reshape(annotation["keypoints"], (17, 3)).astype(float)
        if any(points[:, 2] > 0):
            people.append(_moved(points, annotation, matrix, augmentation.flip, area))
        else:
            _paint(ignored, annotation["segmentation"])
    grid = matrix / STRIDE, (size // STRIDE, size // STRIDE)
    ones = cv2.warpAffine(np.ones_like(ignored), *grid, flags=cv2.INTER_NEAREST)
    ignored = cv2.warpAffine(ignored, *grid, flags=cv2.INTER_NEAREST)
    seen = ones if mask_outside else np.ones_like(ones)
    image = cv2.warpAffine(np.ascontiguousarray(pixels), matrix, (size, size))
    return Crop(image, people, seen * (1 - ignored))


def _moved(points, annotation, matrix, flip: bool, area: str) -> Person:
    moved = points.copy()
    for k, (x, y, v) in enumerate(points):
        moved[k, :2] = matrix @ [x, y, 1] if v > 0 else 0
    if flip:
        moved = np.array([moved[k] for k in FLIPPED])
    _, _, width, height = annotation["bbox"]
    (a, b, _), (c, d, _) = matrix
    pixels = width * height if area == "box" else annotation["area"]
    return Person(moved, pixels * abs(a * d - b * c))


def _paint(ignored: np.ndarray, segmentation) -> None:
    """Puts 1 where a run-length code or an upright rectangle says, in place."""
    if isinstance(segmentation, dict):
        height, _ = segmentation["size"]
        place, value = 0, 0
        for run in segmentation["counts"]:
            for i in range(place, place + run):
                if value:
                    ignored[i % height, i // height] = 1
            place, value = place + run, 1 - value
        return
    for polygon in segmentation:
        x, y = polygon[0::2], polygon[1::2]
        ignored[int(min(y)) : int(max(y)), int(min(x)) : int(max(x))] = 1


# ---- Targets, as released


def targets_of(crop: Crop) -> Targets:
    """Heatmaps, their masks, offsets and weights of a crop."""
    side, count = len(crop.mask), 17 + len(PARTS)
    heatmaps, near = np.zeros((side, side, count)), np.zeros((side, side, count), bool)
    centers = [_centers(person, side) for person in crop.people]
    for person, own in zip(crop.people, centers, strict=True):
        for n, point in enumerate([*_points(person, side), *own]):
            if point is not None:
                _draw(heatmaps[..., n], near[..., n], point)
    mask = np.where(near, 1.0, BACKGROUND) * crop.mask[..., None]
    offsets, weights = np.zeros((side, side, len(PARTS), 17, 2)), np.zeros((side, side, 3, 17))
    contested = 0
    for y, x, s in np.ndindex(side, side, len(PARTS)):
        nearby = [
            person
            for person, own in zip(crop.people, centers, strict=True)
            if own[s] is not None and _in_square(x, y, own[s])
        ]
        contested += len(nearby) > 1
        if not nearby:
            continue
        owner = min(nearby, key=lambda person: person.area)
        for k, point in enumerate(_points(owner, side)):
            if point is not None:
                offsets[y, x, s, k] = x - point[0], y - point[1]
                weights[y, x, s, k] = 1 / math.sqrt(owner.area)
    return Targets(heatmaps, mask, offsets, weights, contested)


def _points(person: Person, side: int) -> list:
    """Each keypoint in heatmap pixels; None if it is not labelled or outside the map."""
    return [
        (x / STRIDE, y / STRIDE)
        if v > 0 and 0 <= x / STRIDE < side and 0 <= y / STRIDE < side
        else None
        for x, y, v in person.keypoints
    ]


def _centers(person: Person, side: int) -> list:
    """Each part's centre in heatmap pixels; None if it has none."""
    centers = []
    for part in PARTS:
        labelled = [person.keypoints[k, :2] / STRIDE for k in part if person.keypoints[k, 2] > 0]
        center = sum(labelled) / len(labelled) if labelled else None
        inside = center is not None and all(0 <= c < side for c in center)
        centers.append(tuple(center) if inside and person.area >= SMALLEST else None)
    return centers


def _draw(heatmap: np.ndarray, near: np.ndarray, point: tuple[float, float]) -> None:
    """The maximum with a Gaussian about the point, inside its window; in place."""
    (left, right), (top, bottom) = (
        (math.floor(c - 3 * SIGMA - 1), math.ceil(c + 3 * SIGMA + 1)) for c in point
    )
    for y in range(max(top, 0), min(bottom, len(heatmap) - 1) + 1):
        for x in range(max(left, 0), min(right, len(heatmap) - 1) + 1):
            distance2 = (x - point[0]) ** 2 + (y - point[1]) ** 2
            heatmap[y, x] = max(heatmap[y, x], math.exp(-distance2 / (2 * SIGMA**2)))
            near[y, x] = True


def _in_square(x: int, y: int, center: tuple[float, float]) -> bool:
    """Whether the pixel is in [c - 2, c + 2) of the truncated centre, both ways."""
    return all(int(c) - 2 <= at < int(c) + 2 for at, c in zip((x, y), center, strict=True))


# ---- Losses


def normalised(image: np.ndarray) -> np.ndarray:
    """What the network reads of uint8 RGB."""
    return (image / 255 - MEAN) / STD


def point_loss(targets: list[Targets], predicted: np.ndarray) -> float:
    """Mean of M (pred - target)^2 over all score and part maps [B, M, M, n]."""
    target = np.stack([one.heatmaps for one in targets])
    mask = np.stack([one.mask for one in targets])
    return float(np.mean(mask * (predicted - target) ** 2))


def offset_loss(rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """Of rows (predicted [17, 2], target [17, 2], weight [17]), x and y counted separately."""
    total, count = 0.0, 0
    for predicted, target, weights in rows:
        for k, weight in enumerate(weights):
            for axis in range(2) if weight > 0 else ():
                error = abs(predicted[k, axis] - target[k, axis])
                total += weight * (error**2 / (2 * BETA) if error < BETA else error - BETA / 2)
                count += 1
    return total / count


def weighted_locations(targets: Targets) -> list[tuple[int, int, int]]:
    """(y, x, part) of every pixel with an offset that has a weight."""
    return [tuple(at) for at in np.argwhere(targets.weights.max(-1) > 0)]


def sampled_locations(targets: Targets, count: int) -> list[tuple[int, int, int]]:
    """Of each part those `count` of the largest part-heatmap target times offset weight."""
    chosen = []
    for s in range(len(PARTS)):
        own = [at for at in weighted_locations(targets) if at[2] == s]
        own.sort(key=lambda at: -targets.heatmaps[at[0], at[1], 17 + s] * targets.weights[at].max())
        chosen += own[:count]
    return chosen
