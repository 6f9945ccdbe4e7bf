"""Ground truth, detections and a slow, obvious average precision, for tests of the scores."""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pinet_jax.evaluation.scoring import match, metrics
from pinet_jax.skeletons import Skeleton

MOST = 20  # detections scored an image
OKS_LEVELS = np.arange(0.5, 1, 0.05)


def person(image_id: int, keypoints: np.ndarray, number: int, **changes) -> dict:
    """An annotation; keypoints [k, 3]."""
    labelled = keypoints[keypoints[:, 2] > 0, :2]
    corner, size = labelled.min(0), np.ptp(labelled, axis=0)
    annotation = {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": len(labelled),
        "bbox": [*corner.tolist(), *size.tolist()],
        "area": float(size.prod()) / 2,
        "iscrowd": 0,
    }
    return annotation | changes


def write_truth(
    path: pathlib.Path,
    annotations: Sequence[Mapping],
    image_ids: Iterable[int] = (),
    crowd_index: Mapping[int, float] | None = None,
) -> pathlib.Path:
    """A COCO keypoint file of the annotations' images and `image_ids`."""
    image_ids = sorted({annotation["image_id"] for annotation in annotations} | set(image_ids))
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 300, "width": 300} for i in image_ids]
    if crowd_index is not None:
        images = [image | {"crowdIndex": crowd_index[image["id"]]} for image in images]
    categories = [{"id": 1, "name": "person"}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(truth))
    return path


def detection(image_id: int, points: np.ndarray, score: float) -> dict:
    """A result; points [k, 2]."""
    keypoints = np.concatenate([points, np.full((len(points), 1), score)], -1)
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "score": score,
    }


def evaluate(
    results: Sequence[Mapping], path: pathlib.Path, skeleton: Skeleton, max_detections: int
) -> dict[str, float]:
    """The metrics of `results` beside an annotation file."""
    return metrics(match(results, path, skeleton, max_detections))


def truth_as_results(path: pathlib.Path, seed: int = 0) -> list[dict]:
    """Everybody who must be found in an annotation file, with random scores."""
    rng = np.random.default_rng(seed)
    return [
        detection(a["image_id"], np.reshape(a["keypoints"], (-1, 3))[:, :2], rng.uniform())
        for a in json.loads(pathlib.Path(path).read_text())["annotations"]
        if a["num_keypoints"] and not a["iscrowd"]
    ]


def random_people(rng: np.random.Generator, skeleton: Skeleton, count: int) -> list[np.ndarray]:
    """Keypoint arrays [k, 3] of medium and large persons, some keypoints unlabelled."""
    people = []
    for _ in range(count):
        size = rng.uniform(60, 250)
        points = rng.uniform(0, size, (skeleton.num_keypoints, 2))
        visibility = rng.integers(0, 3, skeleton.num_keypoints)
        visibility[:2] = 2
        people.append(np.concatenate([points, visibility[:, None]], -1))
    return people


def perturbed_crowd(
    rng: np.random.Generator, skeleton: Skeleton, num_images: int
) -> tuple[list[dict], list[dict]]:
    """Annotations and detections of images with 0 to 7 people and as much that goes wrong.

    Some people are ignored (crowds, no counted keypoints), some missed, some found two or
    three times, at noise from next to none to hopeless; some detections are of nobody.
    """
    annotations, results = [], []
    for image_id in range(1, num_images + 1):
        people = random_people(rng, skeleton, rng.integers(0, 8))
        for keypoints in people:
            annotation = person(image_id, keypoints, len(annotations) + 1)
            fate = rng.uniform()
            if fate < 0.1:
                annotation["num_keypoints"] = 0
            elif fate < 0.2:
                annotation["iscrowd"] = 1
            annotations.append(annotation)
            for _ in range(rng.integers(0, 4)):
                noise = rng.normal(0, rng.choice([1, 4, 12, 60]), (skeleton.num_keypoints, 2))
                results.append(detection(image_id, keypoints[:, :2] + noise, rng.uniform()))
        for keypoints in random_people(rng, skeleton, rng.integers(0, 6)):
            results.append(detection(image_id, keypoints[:, :2] + 30, rng.uniform()))
    return annotations, results


def slow_average_precision(
    annotations: Sequence[Mapping],
    results: Sequence[Mapping],
    skeleton: Skeleton,
    thresholds: Sequence[float] = OKS_LEVELS,
    counted=lambda annotation: True,
) -> float:
    """AP image by image and detection by detection, of `counted` annotations; others ignored.

    Whoever is ignored may be found once, a crowd any number of times.
    """

    def oks(result, truth):
        found, true = (np.reshape(p["keypoints"], (-1, 3)) for p in (result, truth))
        total, count = 0.0, 0
        for (x, y, _), (tx, ty, v), sigma in zip(found, true, skeleton.sigmas, strict=True):
            if v > 0:
                d2 = (x - tx) ** 2 + (y - ty) ** 2
                total += np.exp(-d2 / (2 * (2 * sigma) ** 2 * truth["area"]))
                count += 1
        return total / count

    best_first = []
    for result in sorted(results, key=lambda r: -r["score"]):
        in_image = [truth for truth in annotations if truth["image_id"] == result["image_id"]]
        earlier = sum(image_id == result["image_id"] for image_id, _ in best_first)
        if earlier < MOST:
            matches = [(counted(t), oks(result, t), t["id"], t["iscrowd"]) for t in in_image]
            best_first.append((result["image_id"], matches))

    precisions = []
    for threshold in thresholds:
        taken, hits = set(), []
        for _, matches in best_first:
            near = [m for m in matches if m[1] >= threshold and m[2] not in taken]
            if not near:
                hits.append(False)
                continue
            is_counted, _, number, is_crowd = max(near)  # somebody counted, then the nearest
            if not is_crowd:
                taken.add(number)
            if is_counted:
                hits.append(True)
        total = sum(map(counted, annotations))
        found = np.cumsum(hits)
        recall, precision = found / total, found / np.arange(1, len(hits) + 1)
        levels = np.linspace(0, 1, 101)
        precisions += [max(precision[recall >= level], default=0) for level in levels]
    return np.mean(precisions)
