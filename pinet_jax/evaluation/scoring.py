"""Scores of people found: OKS average precision and recall, as the COCO tools count them."""

import contextlib
import copy
import dataclasses
import io
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pinet_jax.evaluation.coco_annotations import PERSON
from pinet_jax.evaluation.ground_truth import GroundTruth, read_truth
from pinet_jax.evaluation.resampling import Tally
from pinet_jax.evaluation.results import FIELDS, checked_results
from pinet_jax.runtime import tables
from pinet_jax.skeletons import Skeleton

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
# CrowdPose's metric -> images counted: from the first crowdIndex to below the second.
_CROWD_METRICS = {"AP_easy": (0.0, 0.2), "AP_medium": (0.2, 0.8), "AP_hard": (0.8, np.inf)}


@dataclasses.dataclass(frozen=True)
class ImageMatches:
    """The d detections and g persons of one image, and which belong together.

    Attributes:
        image_id: of the annotations.
        detections: those that are scored, in the COCO results format, best first.
        persons: all the annotations, those of people who need not be found included.
        oks: of each detection with each person.
        person_of: index of the person whom a detection is matched with, -1 for nobody.
    """

    image_id: int
    detections: tuple[Mapping[str, Any], ...]
    persons: tuple[Mapping[str, Any], ...]
    oks: Float[np.ndarray, "d g"]
    person_of: Int[np.ndarray, " d"]

    def best(self, count: int) -> "ImageMatches":
        """The same of the best detections alone: whom they match depends on no later one."""
        return dataclasses.replace(
            self,
            detections=self.detections[:count],
            oks=self.oks[:count],
            person_of=self.person_of[:count],
        )


@dataclasses.dataclass(frozen=True)
class PrecisionCurves:
    """Precision at levels of recall, over all images.

    Attributes:
        thresholds: of OKS, from which on a person is found.
        recall: levels in [0, 1].
        precision: at that recall or a higher one; -1 without a person to find.
    """

    thresholds: Float[np.ndarray, " t"]
    recall: Float[np.ndarray, " r"]
    precision: Float[np.ndarray, "t r"]


class Scorer:
    """Detections matched with ground truth; every score is read off the matches.

    Args:
        results: detections in the COCO results format, of images of `truth`.
        truth: what they are held against.
        skeleton: its sigmas are the OKS constants.
        max_detections: how many of the best are scored an image.

    Attributes:
        truth: as given.
    """

    def __init__(
        self,
        results: Sequence[Mapping[str, Any]],
        truth: GroundTruth,
        skeleton: Skeleton,
        max_detections: int,
    ):
        self.truth = truth
        with _silent():
            persons = _coco(truth, truth.persons)
            # loadRes writes into what it is given, and refuses an empty list.
            given = [{field: result[field] for field in FIELDS} for result in results]
            found = persons.loadRes(given) if given else _coco(truth, ())
            matching = COCOeval(persons, found, "keypoints")
            matching.params.imgIds = sorted(truth.image_ids)
            matching.params.catIds = [PERSON]
            matching.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
            matching.params.maxDets = [max_detections]
            if not truth.has_sizes:
                _keep_all_sizes_only(matching)
            matching.evaluate()
        self._matching = matching

    def scores(
        self, names: Iterable[str], image_ids: Collection[int] | None = None
    ) -> dict[str, float]:
        """Metrics by name, on some of the images.

        Args:
            names: of AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL.
            image_ids: the images; all of them unless given.

        Returns:
            Each metric in [0, 1]; -1, as the COCO tools have it, without a person to find.
        """
        accumulated = copy.copy(self._matching)
        if image_ids is not None:
            accumulated.evalImgs = [
                image if image is not None and image["image_id"] in image_ids else None
                for image in self._matching.evalImgs
            ]
        with _silent():
            accumulated.accumulate()
        return {name: _mean_of(accumulated, *_METRICS[name]) for name in names}

    def precision_curves(self) -> PrecisionCurves:
        """What AP is the mean of."""
        accumulated = copy.copy(self._matching)
        with _silent():
            accumulated.accumulate()
        params = accumulated.params
        precision = accumulated.eval["precision"][:, :, 0, params.areaRngLbl.index("all"), 0]
        return PrecisionCurves(np.array(params.iouThrs), np.array(params.recThrs), precision)

    def tally(self) -> Tally:
        """What AP is counted from; its images are those of `truth` by rising id."""
        matching = self._matching
        index_of = {image_id: i for i, image_id in enumerate(sorted(self.truth.image_ids))}
        # One entry an image, for persons of all sizes first.
        images = [e for e in matching.evalImgs[: len(matching.params.imgIds)] if e is not None]
        levels = len(matching.params.iouThrs)
        persons = np.zeros(len(index_of), int)
        for image in images:
            persons[index_of[image["image_id"]]] = np.count_nonzero(~np.bool_(image["gtIgnore"]))
        scores = np.concatenate([np.zeros(0), *(image["dtScores"] for image in images)])
        best_first = np.argsort(-scores, kind="stable")

        def joined(field: str) -> np.ndarray:
            arrays = [np.bool_(image[field]) for image in images]
            return np.concatenate([np.zeros((levels, 0), bool), *arrays], axis=1)[:, best_first]

        image_of = [np.full(len(e["dtScores"]), index_of[e["image_id"]]) for e in images]
        counted = ~joined("dtIgnore")
        return Tally(
            image=np.concatenate([np.zeros(0, int), *image_of])[best_first],
            right=joined("dtMatches") & counted,
            counted=counted,
            persons=persons,
        )

    def images(self, threshold: float) -> Iterator[ImageMatches]:
        """Every image with an annotation or a detection, matched as AP at one threshold is.

        Args:
            threshold: of OKS, one of 0.5, 0.55 ... 0.95.
        """
        matching = self._matching
        (row,) = np.flatnonzero(np.isclose(matching.params.iouThrs, threshold))
        # One entry an image, for persons of all sizes first.
        for image in matching.evalImgs[: len(matching.params.imgIds)]:
            if image is None:
                continue
            image_id, detections = image["image_id"], image["dtIds"]
            persons = tuple(matching.cocoGt.imgToAnns[image_id])
            index_of = {person["id"]: index for index, person in enumerate(persons)}
            yield ImageMatches(
                image_id=int(image_id),
                detections=tuple(matching.cocoDt.anns[number] for number in detections),
                persons=persons,
                oks=np.reshape(matching.ious[image_id, PERSON], (len(detections), len(persons))),
                person_of=np.array(
                    [index_of.get(int(number), -1) for number in image["dtMatches"][row]], int
                ),
            )

    def finding(self, person_ids: Collection[int]) -> "Scorer":
        """The same detections with only these persons to be found, on the images that have one.

        Who matches another person is neither right nor wrong, as with persons of another
        size in APM; a detection that matches nobody is wrong as ever.
        """
        other = copy.copy(self)
        other._matching = matching = copy.copy(self._matching)
        # The COCO tools ignore persons without counted keypoints, but still match them.
        persons = tuple(
            person if person["id"] in person_ids else {**person, "num_keypoints": 0}
            for person in self.truth.persons
        )
        known = self._matching.ious
        images = {p["image_id"] for p in self.truth.persons if p["id"] in person_ids}
        with _silent():
            matching.cocoGt = _coco(self.truth, persons)
            matching.params = copy.deepcopy(matching.params)
            matching.params.imgIds = sorted(images)
            _keep_all_sizes_only(matching)
            matching.computeOks = lambda image_id, category: known[image_id, category]
            matching.evaluate()
        return other


def match(
    results: Sequence[Mapping[str, Any]],
    annotations_path: str | os.PathLike,
    skeleton: Skeleton,
    max_detections: int,
    name: str = "The results",
) -> Scorer:
    """Reads the ground truth and matches detections with it.

    Args:
        results: detections in the COCO results format, of any number of images.
        annotations_path: ground truth, a COCO keypoint JSON.
        skeleton: its sigmas are the OKS constants.
        max_detections: how many of the best are scored an image; the COCO task has 20.
        name: what the results are called in messages.

    Raises:
        UserError: the annotations cannot be read or are of another skeleton, or a
            result is of an image they do not list or cannot be scored.
    """
    truth = read_truth(annotations_path, skeleton)
    results = checked_results(results, skeleton, truth.image_ids, annotations_path, name)
    return Scorer(results, truth, skeleton, max_detections)


def metrics(scorer: Scorer) -> dict[str, float]:
    """The metrics of the data's protocol.

    Returns:
        AP, AP50, AP75, AR, AR50, AR75 in [0, 1], or -1, as the COCO tools have it,
        without a person to find. Where persons have areas of their own, APM, APL, ARM, ARL
        too (COCO); where images have a crowdIndex, AP_easy, AP_medium and AP_hard: AP on
        the images with crowdIndex below 0.2, below 0.8 and from there on (CrowdPose).
    """
    sizes = ("all", "medium", "large") if scorer.truth.has_sizes else ("all",)
    found = scorer.scores(name for name, (*_, size) in _METRICS.items() if size in sizes)
    if scorer.truth.crowd_index is not None:
        for name, (low, high) in _CROWD_METRICS.items():
            images = {i for i, value in scorer.truth.crowd_index.items() if low <= value < high}
            found[name] = scorer.scores(["AP"], images)["AP"]
    return found


def table(metrics: Mapping[str, Any]) -> str:
    """The metrics in percent under their names, for people to read.

    Args:
        metrics: in [0, 1], or -1; what is no number (in a metrics.json) is left out.
    """
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return tables.aligned([list(numbers), list(map(percent, numbers.values()))])


def percent(value: float) -> str:
    """A score as a percentage with one decimal; "-" for -1, where there is nobody to find.

    Rounded as the COCO tools print it, to three decimals: 100 * value in floats may fall on
    the other side of a half.
    """
    return "-" if value < 0 else f"{100 * Decimal(f'{value:.3f}'):.1f}"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The COCO tools print what they do."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _coco(truth: GroundTruth, persons: Iterable[Mapping[str, Any]]) -> COCO:
    """Persons on the images of `truth`, for the COCO tools, which write into them."""
    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": image_id} for image_id in truth.image_ids],
        "annotations": [dict(person) for person in persons],
        "categories": [{"id": PERSON, "name": "person"}],
    }
    dataset.createIndex()
    return dataset


def _keep_all_sizes_only(matching: COCOeval) -> None:
    """Leaves out medium and large persons, which take two thirds of the time."""
    matching.params.areaRng = matching.params.areaRng[:1]
    matching.params.areaRngLbl = matching.params.areaRngLbl[:1]


def _mean_of(scorer: COCOeval, what: str, threshold: float | None, objects: str) -> float:
    """Mean of the accumulated precisions or recalls over one slice of them."""
    # [threshold, recall level, category, size, detections], recall without the levels.
    values = scorer.eval[what][..., scorer.params.areaRngLbl.index(objects), 0]
    if threshold is not None:
        values = values[np.isclose(scorer.params.iouThrs, threshold)]
    counted = values[values > -1]  # -1 marks what has no ground truth
    return float(counted.mean()) if counted.size else -1.0
