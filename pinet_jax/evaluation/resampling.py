"""AP of resampled images, from matches that are computed once.

An evaluation leaves a tally: each detection's image, score and whether it is right. The AP of
any resample of the images (a bootstrap draw) is counted from the tally alone, exactly as the
COCO tools would count it with the drawn images repeated.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Tally:
    """What AP is counted from, of an evaluation with d detections on m images.

    Attributes:
        image: of each detection, by falling score: index of its image.
        right: whether it is matched with a person to be found, at each of t OKS thresholds.
        counted: False where a detection is neither right nor wrong at that threshold.
        persons: to be found in each image.
    """

    image: Int[np.ndarray, " d"]
    right: Bool[np.ndarray, "t d"]
    counted: Bool[np.ndarray, "t d"]
    persons: Int[np.ndarray, " m"]


def average_precision(
    tally: Tally,
    repeats: Int[np.ndarray, " m"],
    recall: Float[np.ndarray, " r"],
) -> float:
    """AP on the images, each counted `repeats` times; -1 without a person.

    Precision at a level of recall is the best at that recall or a higher one, 0 where it is
    never reached; AP is its mean over levels and OKS thresholds (COCO's 101-point AP).

    Args:
        tally: of one evaluation.
        repeats: how often each image is in the resample.
        recall: rising levels in [0, 1].
    """
    wanted = tally.persons @ repeats
    if wanted == 0:
        return -1.0
    weight = repeats[tally.image]
    found = np.cumsum(tally.right * weight, axis=1)
    answers = np.cumsum(tally.counted * weight, axis=1)
    precision = found / np.maximum(answers, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))  # where the recall is never reached
    reached = [np.searchsorted(row / wanted, recall, side="left") for row in found]
    return float(np.take_along_axis(envelope, np.stack(reached), axis=1).mean())


def draws(num_images: int, num_draws: int, seed: int) -> Int[np.ndarray, "n m"]:
    """How often each image is in each bootstrap draw: as many images, with replacement."""
    chances = np.full(num_images, 1 / num_images)
    return np.random.default_rng(seed).multinomial(num_images, chances, size=num_draws)
