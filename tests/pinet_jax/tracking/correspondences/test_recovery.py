"""Step 3: who is looked for again, in which crop, and who of those found there stays."""

import numpy as np
import pytest

from pinet_jax.config import load_config
from pinet_jax.skeletons import COCO
from pinet_jax.tracking.correspondences.recovery import recover
from pinet_jax.tracking.frames import Detections, nobody

CONFIG = load_config("coco").tracking
IMAGE = np.full((200, 250, 3), 255, np.uint8)
IMAGE[..., 1], IMAGE[..., 0] = np.mgrid[:200, :250]
SIDE = 128
MARGIN = 5.0


def pose(x, y, seed=0):
    return np.random.default_rng(seed).uniform(-30, 30, (17, 2)) + np.array([x, y])


def people(*poses, score=0.9):
    return Detections(np.array(poses), np.full((len(poses), 17), score))


class Finder:
    """Finds in every crop who is told, given in image pixels; `middles` are of the crops.

    The image's red and green channels say where in it a pixel is from.
    """

    def __init__(self, *there):
        self.there, self.crops = there, []

    def __call__(self, crops):
        self.crops += crops
        return [self.in_crop(crop) for crop in crops]

    def in_crop(self, crop):
        scale, shift = place(crop)
        return people(*(scale * p + shift for p in self.there)) if self.there else nobody(17)


def place(crop):
    """Scale and shift from image pixels to the crop's, by its content."""
    y, x = np.nonzero(crop[..., 2] == 255)
    columns = np.polyfit(crop[y, x, 0].astype(float), x, 1)
    rows = np.polyfit(crop[y, x, 1].astype(float), y, 1)
    return columns[0], np.array([columns[1], rows[1]])


def run(warped, scores, found, finder):
    scores = np.broadcast_to(scores, np.shape(warped)[:2])
    return recover(
        IMAGE, np.asarray(warped), scores, found, finder, COCO.sigmas, MARGIN, SIDE, CONFIG
    )


def test_a_person_missed_is_found_in_the_square_about_the_warped_pose():
    truth = pose(150, 100)
    finder = Finder(truth, pose(155, 100, seed=1))
    found = run([truth + 1], 0.8, nobody(17), finder)
    np.testing.assert_allclose(found.keypoints, [truth], atol=0.3)
    longer = (np.ptp(truth, axis=0) + 2 * MARGIN).max()
    scale, shift = place(finder.crops[0])
    assert finder.crops[0].shape == (SIDE, SIDE, 3)
    assert scale == pytest.approx(SIDE / 1.25 / longer, rel=0.01)
    middle = (truth.min(0) + truth.max(0)) / 2 + 1
    np.testing.assert_allclose(scale * middle + shift, SIDE / 2, atol=1)


def test_a_crop_reaches_beyond_the_image():
    truth = pose(20, 30)
    found = run([truth], 0.8, nobody(17), Finder(truth))
    np.testing.assert_allclose(found.keypoints, [truth], atol=0.3)


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        (0.05, nobody(17)),  # the warp is not sure of anything
        (np.where(np.arange(17) < 2, 0.9, 0.0), nobody(17)),  # of two joints only
        (0.8, people(pose(151, 100))),  # somebody was found there
    ],
)
def test_no_crop_is_looked_at_without_need(scores, found):
    finder = Finder(pose(150, 100))
    assert len(run([pose(150, 100)], scores, found, finder)) == 0
    assert not finder.crops


def test_an_estimate_that_is_somebody_found_or_recovered_is_dropped():
    elsewhere, truth = pose(80, 100, seed=3), pose(150, 100)
    drifted = Finder(elsewhere)  # the crop shows nobody but one who was found
    assert len(run([truth], 0.8, people(elsewhere), drifted)) == 0
    twice = run([truth, truth + 2], 0.8, nobody(17), Finder(truth))
    assert len(twice) == 1


def test_an_estimate_of_few_joints_or_none_is_dropped():
    class Poor(Finder):
        def in_crop(self, crop):
            found = super().in_crop(crop)
            scores = np.where(np.arange(17) < 4, found.keypoint_scores, 0.01)
            return Detections(found.keypoints, scores)

    truth = pose(150, 100)
    assert len(run([truth], 0.8, nobody(17), Poor(truth))) == 0
    assert len(run([truth], 0.8, nobody(17), Finder())) == 0
