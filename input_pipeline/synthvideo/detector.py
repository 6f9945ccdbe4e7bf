"""A simulated detector: the truth with a detector's faults, so that tracking is tested alone.

Numbers of TRACKING, section 6; noise in square roots of a person's area.
"""

import numpy as np
from jaxtyping import Bool, Float

from input_pipeline.synthvideo.render import Frames
from input_pipeline.synthvideo.truth import SEEN, scored
from pinet_jax.tracking.frames import Detections

NOISE_SEEN, NOISE_HIDDEN = 0.025, 0.10  # standard deviation of a joint
SCORE_SEEN, SCORE_HIDDEN = (0.6, 1.0), (0.3, 0.5)  # uniform
MISSED, MISSED_HIDDEN = 0.04, 0.2  # chance a frame
SHOWS = 0.7  # of the most joints ever seen of a person: if fewer, it is behind somebody
DUPLICATES_START = 0.01  # chance a frame; they make 6.5% of the detections
DUPLICATES_LAST = (3, 10)  # frames
DUPLICATES_OFF = 0.11  # how far a duplicate is off; less would be suppressed


def detect(frames: Frames, min_seen: int, seed: tuple[int, ...]) -> list[Detections]:
    """What a detector finds in every frame, in no order; the same seed, the same faults.

    Args:
        frames: of the video.
        min_seen: joints seen of a person who can be found.
        seed: numbers that name the video.
    """
    random = np.random.default_rng(seed)
    there = scored(frames, min_seen)
    chance = np.where(_behind_somebody(frames), MISSED_HIDDEN, MISSED)
    found = there & (random.random(there.shape) >= chance)
    offsets = _duplicates(random, frames) * np.sqrt(frames.area)[..., None]
    doubled = found & offsets.any(-1)
    detections = []
    for number in range(len(there)):
        once, twice = np.flatnonzero(found[number]), np.flatnonzero(doubled[number])
        rows = np.concatenate([once, twice])
        off = np.concatenate([np.zeros((len(once), 2)), offsets[number, twice]])
        order = random.permutation(len(rows))
        detections.append(_seen(random, frames, number, rows[order], off[order]))
    return detections


def _behind_somebody(frames: Frames) -> Bool[np.ndarray, "f p"]:
    """Whether clearly less shows of each person than at best; half of it hides itself anyway."""
    seen = (frames.keypoints[..., 2] == SEEN).sum(-1)
    return seen < SHOWS * seen.max(0)


def _duplicates(random: np.random.Generator, frames: Frames) -> Float[np.ndarray, "f p 2"]:
    """Where the duplicate of each person is, roots of its area off; zeros where there is none."""
    length, people = frames.area.shape
    offsets = np.zeros((length, people, 2))
    for person in range(people):
        number = 0
        while number < length:
            if random.random() < DUPLICATES_START:
                last = number + random.integers(*DUPLICATES_LAST, endpoint=True)
                angle = random.uniform(0, 2 * np.pi)
                offsets[number:last, person] = DUPLICATES_OFF * np.array(
                    [np.cos(angle), np.sin(angle)]
                )
                number = last
            number += 1
    return offsets


def _seen(
    random: np.random.Generator,
    frames: Frames,
    number: int,
    rows: np.ndarray,
    offsets: Float[np.ndarray, "n 2"],
) -> Detections:
    """Noisy people of frame `number`; joints outside the picture have no score."""
    truth = frames.keypoints[number, rows]
    visibility = truth[..., 2]
    scale = np.sqrt(frames.area[number, rows])[:, None]
    spread = np.where(visibility == SEEN, NOISE_SEEN, NOISE_HIDDEN) * scale
    noise = spread[..., None] * random.normal(size=(*spread.shape, 2))
    scores = np.where(
        visibility == SEEN,
        random.uniform(*SCORE_SEEN, visibility.shape),
        random.uniform(*SCORE_HIDDEN, visibility.shape),
    )
    keypoints = truth[..., :2] + noise + offsets[:, None]
    return Detections(keypoints.astype(float), np.where(visibility > 0, scores, 0.0))
