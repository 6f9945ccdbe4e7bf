"""Who is scored in a synthetic video, and the annotations that say so."""

from typing import Any

import numpy as np
from jaxtyping import Bool

from input_pipeline.synthvideo.render import Frames
from pinet_jax.evaluation.coco_annotations import PERSON
from pinet_jax.skeletons import COCO
from pinet_jax.tracking import posetrack

SEEN = 2  # v of a keypoint


def scored(frames: Frames, min_seen: int) -> Bool[np.ndarray, "f p"]:
    """Whether enough joints of each person are seen in each frame."""
    return (frames.keypoints[..., 2] == SEEN).sum(-1) >= min_seen


def annotations(frames: Frames, min_seen: int, file_names: list[str]) -> dict[str, Any]:
    """The content of a PoseTrack file: the scored people of every frame, ids from 1.

    Args:
        frames: of the video.
        min_seen: joints seen of a person who is scored.
        file_names: of the frames.
    """
    size = frames.images.shape[1]
    images = [
        posetrack.image_of(number, {"file_name": name, "width": size, "height": size})
        for number, name in enumerate(file_names)
    ]
    people = [
        _annotation(frames, number, person)
        for number, person in np.argwhere(scored(frames, min_seen)).tolist()
    ]
    return {
        "images": images,
        "annotations": [{"id": number, **person} for number, person in enumerate(people)],
        "categories": [posetrack.category(COCO)],
    }


def _annotation(frames: Frames, number: int, person: int) -> dict[str, Any]:
    def rounded(values: np.ndarray) -> list[float]:
        return np.round(values.astype(float), 2).ravel().tolist()

    return {
        "image_id": number,
        "track_id": person + 1,
        "category_id": PERSON,
        "keypoints": rounded(frames.keypoints[number, person]),
        "bbox": rounded(frames.boxes[number, person]),
        "bbox_head": rounded(frames.heads[number, person]),
        "area": float(frames.area[number, person]),
    }
