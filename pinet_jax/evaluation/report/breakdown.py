"""What went wrong with persons, detections and keypoints, and how often.

After Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation", ICCV 2017, section 3. Their keypoint similarity is that of one keypoint in
OKS: exp(-d^2 / (2 s^2 k^2)) at distance d from a keypoint of a person of area s^2, with k
twice the skeleton's sigma.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from pinet_jax.evaluation.coco_annotations import counts
from pinet_jax.evaluation.scoring import ImageMatches
from pinet_jax.skeletons import Skeleton

FOUND = 0.5  # OKS from which on a person is found
NEAR = 0.1  # OKS from which on a detection is of a person at all
GOOD_KEYPOINT = 0.85  # keypoint similarity
NEAR_KEYPOINT = 0.5

PERSON_KINDS = ("found", "poor", "missed")
DETECTION_KINDS = ("right", "poor", "duplicate", "false")
KEYPOINT_KINDS = ("good", "jitter", "inverted", "swapped", "missed")
IGNORED = "ignored"  # a detection of somebody who need not be found


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one image's detections and persons.

    Attributes:
        image_id: of the annotations.
        scores: of the detections, falling.
        detections: each one's kind, or `IGNORED`.
        persons: the kind of everybody who must be found.
        oks: of the detections that are right or poor, with their persons.
        keypoints: labelled keypoints of these persons, by keypoint and kind.
    """

    image_id: int
    scores: Float[np.ndarray, " d"]
    detections: tuple[str, ...]
    persons: tuple[str, ...]
    oks: Float[np.ndarray, " m"]
    keypoints: Int[np.ndarray, "k 5"]

    @property
    def errors(self) -> int:
        """Persons not found and detections that are not right, by OKS 0.5."""
        right = self.detections.count("right") + self.detections.count(IGNORED)
        return len(self.persons) - self.persons.count("found") + len(self.detections) - right


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """Errors of all images.

    Attributes:
        persons: how many of each kind, in the order of `PERSON_KINDS`.
        detections: likewise, of `DETECTION_KINDS`; those that are ignored are left out.
        keypoints: likewise, of each keypoint and `KEYPOINT_KINDS`.
    """

    persons: tuple[int, ...]
    detections: tuple[int, ...]
    keypoints: Int[np.ndarray, "k 5"]


def break_down(outcomes: Iterable[Outcome], num_keypoints: int) -> Breakdown:
    """The sum over images."""
    outcomes = tuple(outcomes)
    persons = [kind for outcome in outcomes for kind in outcome.persons]
    detections = [kind for outcome in outcomes for kind in outcome.detections]
    keypoints = np.zeros((num_keypoints, len(KEYPOINT_KINDS)), int)
    return Breakdown(
        tuple(map(persons.count, PERSON_KINDS)),
        tuple(map(detections.count, DETECTION_KINDS)),
        sum((outcome.keypoints for outcome in outcomes), keypoints),
    )


def outcome(image: ImageMatches, skeleton: Skeleton, min_score: float = -np.inf) -> Outcome:
    """What became of the detections and persons of an image.

    docs/evaluate.md says who is found, poor or missed, and which detection is right, poor, a
    duplicate or false. Keypoints are told apart by `keypoint_kinds`, for persons found and poor.

    Args:
        image: matched at `FOUND`.
        skeleton: of the keypoints.
        min_score: detections of a lower score are left out.
    """
    scores = np.array([detection["score"] for detection in image.detections], float)
    image = image.best(int((scores >= min_score).sum()))
    kinds, person_of = _detections(image)
    persons = {i: "missed" for i, person in enumerate(image.persons) if counts(person)}
    keypoints = np.zeros((skeleton.num_keypoints, len(KEYPOINT_KINDS)), int)
    matched = [(d, p) for d, p in enumerate(person_of) if kinds[d] in ("right", "poor")]
    for detection, person in matched:
        persons[person] = "found" if kinds[detection] == "right" else "poor"
        found = image.detections[detection]["keypoints"]
        points = np.array(found, float).reshape(-1, 3)[:, :2]
        for keypoint, kind in enumerate(keypoint_kinds(points, person, image.persons, skeleton)):
            if kind:
                keypoints[keypoint, KEYPOINT_KINDS.index(kind)] += 1
    return Outcome(
        image_id=image.image_id,
        scores=scores[: len(kinds)],
        detections=tuple(kinds),
        persons=tuple(persons.values()),
        oks=np.array([image.oks[pair] for pair in matched], float),
        keypoints=keypoints,
    )


def keypoint_kinds(
    points: Float[np.ndarray, "k 2"], person: int, persons: Sequence[dict], skeleton: Skeleton
) -> list[str]:
    """What each keypoint of a detection of one person is; "" where there is no label.

    docs/evaluate.md says when it is which of `KEYPOINT_KINDS`.

    Args:
        points: (x, y) of the detection in image pixels.
        person: index in `persons` of whom it is of.
        persons: all the annotations of the image.
        skeleton: of the keypoints.
    """
    truth = np.array([p["keypoints"] for p in persons], float).reshape(len(persons), -1, 3)
    area = np.array([p["area"] for p in persons], float)
    variance = (2 * np.array(skeleton.sigmas)) ** 2 * (area[:, None] + np.spacing(1))

    def similarity(order: np.ndarray) -> np.ndarray:
        """[persons, keypoints]: of each point to the keypoint that `order` has for it."""
        distance2 = ((points - truth[:, order, :2]) ** 2).sum(-1)
        return np.exp(-distance2 / (2 * variance[:, order])) * (truth[:, order, 2] > 0)

    same, flip = np.arange(skeleton.num_keypoints), np.array(skeleton.flip_order)
    own, mirrored = similarity(same), similarity(flip) * (flip != same)
    others = np.delete(np.maximum(own, mirrored), person, axis=0).max(axis=0, initial=0)
    inverted = mirrored[person]
    kinds = np.select(
        [
            truth[person, :, 2] <= 0,
            own[person] >= GOOD_KEYPOINT,
            own[person] >= NEAR_KEYPOINT,
            (inverted >= NEAR_KEYPOINT) & (inverted >= others),
            others >= NEAR_KEYPOINT,
        ],
        ["", *KEYPOINT_KINDS[:4]],
        KEYPOINT_KINDS[4],
    )
    return kinds.tolist()


def _detections(image: ImageMatches) -> tuple[list[str], list[int]]:
    """Kind and nearest person of every detection, the person's index or -1."""
    to_find = np.array([counts(person) for person in image.persons], bool)
    oks = np.where(to_find, image.oks, -1)
    taken = {int(p) for p in image.person_of if p >= 0}
    kinds, persons = [], []
    for row, matched in zip(oks, image.person_of, strict=True):
        person = int(matched) if matched >= 0 else int(row.argmax()) if len(row) else -1
        persons.append(person)
        if matched >= 0:
            kinds.append("right" if to_find[matched] else IGNORED)
        elif person < 0 or row[person] < NEAR:
            kinds.append("false")
        elif person in taken:
            kinds.append("duplicate")
        else:
            kinds.append("poor")
            taken.add(person)
    return kinds, persons
