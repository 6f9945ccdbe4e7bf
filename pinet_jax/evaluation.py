"""Scores of people found: OKS average precision and recall, as the COCO tools count them."""

import contextlib
import io
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pinet_jax.errors import UserError
from pinet_jax.skeletons import Skeleton

PERSON = 1  # category id, in all the datasets
AREA_OF_BOX = 0.53  # body over box, where annotations give no area (CrowdPose's protocol)

# Metric -> (what is averaged, OKS threshold or None for all, objects counted).
_METRICS = {
    "AP": ("precision", None, "all"),
    "AP50": ("precision", 0.5, "all"),
    "AP75": ("precision", 0.75, "all"),
    "APM": ("precision", None, "medium"),
    "APL": ("precision", None, "large"),
    "AR": ("recall", None, "all"),
    "AR50": ("recall", 0.5, "all"),
    "AR75": ("recall", 0.75, "all"),
    "ARM": ("recall", None, "medium"),
    "ARL": ("recall", None, "large"),
}


@runtime_checkable
class FoundPeople(Protocol):
    """The people of one image, as `Predictor` returns them."""

    keypoints: Float[np.ndarray, "n k 2"]
    keypoint_scores: Float[np.ndarray, "n k"]
    scores: Float[np.ndarray, " n"]


def coco_results(
    image_id: int | np.integer, people: FoundPeople, max_detections: int | None = None
) -> list[dict[str, Any]]:
    """The people of one image in the COCO results format, best first.

    Args:
        image_id: the image's id in the annotations.
        people: keypoints in image pixels.
        max_detections: how many of the best are kept; None keeps all.

    Returns:
        A dict a person: image_id, category_id, keypoints (x, y, score, K times), score.
    """
    keypoints = np.concatenate(
        [np.asarray(people.keypoints), np.asarray(people.keypoint_scores)[..., None]], axis=-1
    )
    scores = np.asarray(people.scores)
    best = np.argsort(-scores, kind="stable")[:max_detections]
    return [
        {
            "image_id": int(image_id),
            "category_id": PERSON,
            "keypoints": keypoints[i].ravel().tolist(),
            "score": float(scores[i]),
        }
        for i in best
    ]


def evaluate(
    results: list[dict[str, Any]],
    annotations_path: str | os.PathLike,
    skeleton: Skeleton,
    max_detections: int,
    image_ids: Iterable[int] | None = None,
) -> dict[str, float]:
    """Average precision and recall of `results`, over OKS .50:.05:.95.

    Args:
        results: detections in the COCO results format, of any number of images.
        annotations_path: ground truth, a COCO keypoint JSON.
        skeleton: its sigmas are the OKS constants.
        max_detections: how many of the best are scored an image; the COCO task has 20.
        image_ids: the images that count; all of the annotations' unless given.

    Returns:
        AP, AP50, AP75, APM, APL and AR, AR50, AR75, ARM, ARL in [0, 1]; -1, as the
        COCO tools have it, where the ground truth has no person of that size.

    Raises:
        UserError: the annotations cannot be read or are of another skeleton, or a
            result is of an image they do not list.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _load_truth(annotations_path, skeleton)
        found = _load_results(truth, results, skeleton, annotations_path)
        scorer = COCOeval(truth, found, "keypoints")
        scorer.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        scorer.params.catIds = [PERSON]
        scorer.params.maxDets = [max_detections]
        if image_ids is not None:
            scorer.params.imgIds = sorted({int(i) for i in image_ids})
        scorer.evaluate()
        scorer.accumulate()
    return {name: _mean_of(scorer, *parts) for name, parts in _METRICS.items()}


def table(metrics: Mapping[str, float]) -> str:
    """The metrics in percent under their names, for people to read."""
    cells = {name: "-" if value < 0 else f"{100 * value:.1f}" for name, value in metrics.items()}
    widths = {name: max(len(name), len(cell), 5) for name, cell in cells.items()}
    names = "  ".join(name.rjust(widths[name]) for name in cells)
    return f"{names}\n" + "  ".join(cell.rjust(widths[name]) for name, cell in cells.items())


def _load_truth(path: str | os.PathLike, skeleton: Skeleton) -> COCO:
    """The ground truth, ready for the COCO tools."""
    path = pathlib.Path(path).expanduser()
    truth = COCO()
    try:
        truth.dataset = json.loads(path.read_text(encoding="utf-8"))
        for annotation in truth.dataset["annotations"]:
            values = len(annotation["keypoints"])
            if values != 3 * skeleton.num_keypoints:
                raise UserError(
                    f"'{path}' has {values / 3:g} keypoints a person and the skeleton "
                    f"'{skeleton.name}' {skeleton.num_keypoints}: set config.dataset.skeleton."
                )
            for field in ("id", "image_id", "category_id", "iscrowd", "num_keypoints", "bbox"):
                annotation[field]  # a KeyError here, not deep in the scoring
            if "area" not in annotation:
                _, _, width, height = annotation["bbox"]
                annotation["area"] = AREA_OF_BOX * width * height
        truth.createIndex()
    except OSError as error:
        raise UserError(f"Cannot read the annotations '{path}' ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"'{path}' is not a COCO keypoint annotation file.") from None
    return truth


def _load_results(
    truth: COCO, results: list[dict[str, Any]], skeleton: Skeleton, path: str | os.PathLike
) -> COCO:
    strangers = {result["image_id"] for result in results} - set(truth.getImgIds())
    if strangers:
        raise UserError(
            f"The results have image {min(strangers)}, which '{path}' does not list: "
            "give the annotations of the split that was predicted."
        )
    if any(len(result["keypoints"]) != 3 * skeleton.num_keypoints for result in results):
        raise UserError(
            f"The results are not of the skeleton '{skeleton.name}', which has "
            f"{skeleton.num_keypoints} keypoints: set config.dataset.skeleton."
        )
    if not results:
        found = COCO()
        found.dataset = {**truth.dataset, "annotations": []}
        found.createIndex()
        return found
    fields = ("image_id", "category_id", "keypoints", "score")
    # loadRes writes into what it is given.
    return truth.loadRes([{field: result[field] for field in fields} for result in results])


def _mean_of(scorer: COCOeval, what: str, threshold: float | None, objects: str) -> float:
    """Mean of the accumulated precisions or recalls over one slice of them."""
    # [threshold, recall level, category, size, detections], recall without the levels.
    values = scorer.eval[what][..., scorer.params.areaRngLbl.index(objects), 0]
    if threshold is not None:
        values = values[np.isclose(scorer.params.iouThrs, threshold)]
    counted = values[values > -1]  # -1 marks what has no ground truth
    return float(counted.mean()) if counted.size else -1.0
