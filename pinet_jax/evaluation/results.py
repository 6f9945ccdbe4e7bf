"""Results in the COCO keypoint format: reading a file of them, and what can be wrong."""

import json
import os
import pathlib
from collections.abc import Collection, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from absl import logging
from jaxtyping import Float

from pinet_jax.errors import UserError
from pinet_jax.evaluation.coco_annotations import PERSON, are_finite, is_whole, whole
from pinet_jax.skeletons import Skeleton

FIELDS = ("image_id", "category_id", "keypoints", "score")

Json = dict[str, Any]


def read_results(path: str | os.PathLike) -> list[Json]:
    """The detections of a results file; `checked_results` tells whether they can be scored.

    Raises:
        UserError: it cannot be read, is not JSON or not a list.
    """
    path = pathlib.Path(path).expanduser()
    try:
        results = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"Cannot read the results '{path}' ({error.strerror}).") from None
    except ValueError:
        raise UserError(f"The results '{path}' are not a whole JSON file: write it anew.") from None
    if not isinstance(results, list):
        raise UserError(
            f"The results '{path}' are not a list: give the COCO results format, "
            "[{image_id, category_id, keypoints, score}, ...]."
        )
    return results


def checked_results(
    results: Sequence[Any],
    skeleton: Skeleton,
    image_ids: Collection[int],
    annotations_path: str | os.PathLike,
    name: str = "the results",
) -> list[Json]:
    """Detections as they are scored; one that stands there twice is warned of.

    Args:
        results: detections, which should be in the COCO results format.
        skeleton: how many keypoints each must have.
        image_ids: of all the images that may occur.
        annotations_path: where those images come from, for the message.
        name: what the results are called in messages.

    Returns:
        The same, with ids such as 12.0 as int, and 0 for a keypoint's score that is no number:
        scoring reads x and y alone.

    Raises:
        UserError: the first entry that is wrong, and how.
    """
    known = set(image_ids)
    checked = []
    for number, entry in enumerate(results):
        result = _in_form(entry)
        problem = _problem(result, skeleton)
        if problem:
            raise UserError(f"{name}: entry {number}{_image_of(result)} {problem}.")
        if result["image_id"] not in known:
            raise UserError(
                f"{name}: entry {number} is of image {result['image_id']}, which "
                f"'{annotations_path}' does not list: give the annotations of the split that was "
                "predicted."
            )
        checked.append(result)
    _warn_of_repeats(checked, name)
    return checked


def _in_form(result: Any) -> Any:
    """With int ids and numbers for the keypoints' scores; of what is no result, the same."""
    if not isinstance(result, dict):
        return result
    ids = {name: whole(result[name]) for name in ("image_id", "category_id") if name in result}
    keypoints = result.get("keypoints")
    if not isinstance(keypoints, list) or are_finite(keypoints[2::3]):
        return result | ids
    scores = [value if are_finite([value]) else 0.0 for value in keypoints[2::3]]
    keypoints = keypoints.copy()
    keypoints[2::3] = scores
    return result | ids | {"keypoints": keypoints}


def _problem(result: Any, skeleton: Skeleton) -> str:
    """What is wrong with one entry; empty if nothing is."""
    if not isinstance(result, dict):
        return "is not an object with image_id, category_id, keypoints and score"
    missing = [field for field in FIELDS if field not in result]
    if missing:
        return f"has no '{missing[0]}'"
    if not is_whole(result["image_id"]):
        return f"has an image_id that is no whole number ({result['image_id']!r})"
    if result["category_id"] != PERSON:
        return f"is of category {result['category_id']!r}: people have {PERSON}"
    keypoints = result["keypoints"]
    if not isinstance(keypoints, list) or len(keypoints) != 3 * skeleton.num_keypoints:
        count = len(keypoints) if isinstance(keypoints, list) else "no"
        return (
            f"has {count} numbers in 'keypoints' and not 3 x {skeleton.num_keypoints}, as the "
            f"skeleton '{skeleton.name}' has: set config.dataset.skeleton"
        )
    for field, values in (("keypoints", keypoints), ("score", [result["score"]])):
        if not are_finite(values):
            return f"has a value in '{field}' that is not a finite number"
    return ""


def _image_of(result: Any) -> str:
    known = isinstance(result, dict) and "image_id" in result
    return f" (image {result['image_id']!r})" if known else ""


def _warn_of_repeats(results: Sequence[Json], name: str) -> None:
    """The COCO tools count a repeated detection as a false one, and so it is counted here."""
    first: dict[tuple, int] = {}
    repeats = [
        (number, first[key])
        for number, result in enumerate(results)
        if first.setdefault(key := _key(result), number) != number
    ]
    if repeats:
        number, original = repeats[0]
        logging.warning(
            "%s: %d entries repeat another exactly and count as false detections "
            "(entry %d repeats entry %d, image %d).",
            *(name, len(repeats), number, original, results[number]["image_id"]),
        )


def _key(result: Json) -> tuple:
    return result["image_id"], result["score"], tuple(result["keypoints"])


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
