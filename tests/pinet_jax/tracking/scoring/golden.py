"""The golden videos of tracking and what the official programs say of them."""

import json

from pinet_jax.tracking import posetrack
from pinet_jax.tracking.scoring.pairs import scored_frames
from tests.paths import GOLDEN

CASES = ("perfect", "by_hand", "crowd")
FOLDER = GOLDEN / "tracking"


def read(case: str) -> tuple[dict, tuple[str, ...], dict]:
    """The scored frames of each video, the joints' names, and the expected values."""
    videos = {}
    for path in sorted((FOLDER / case / "gt").glob("*.json")):
        truth = posetrack.read(path)
        found = posetrack.read(FOLDER / case / "pred" / path.name)
        videos[truth.name] = scored_frames(truth, found)
    expected = json.loads((FOLDER / case / "expected.json").read_text())
    return videos, truth.keypoints, expected
