import io

import numpy as np
import pytest
from PIL import Image

from pinet_jax.evaluation.report import curves
from pinet_jax.evaluation.report.breakdown import KEYPOINT_KINDS
from pinet_jax.evaluation.scoring import PrecisionCurves

THRESHOLDS, RECALL = np.arange(0.5, 1, 0.05), np.linspace(0, 1, 101)
KNOWN = PrecisionCurves(THRESHOLDS, RECALL, np.outer(1.4 - THRESHOLDS, 1 - RECALL))
UNKNOWN = PrecisionCurves(THRESHOLDS, RECALL, np.full((10, 101), -1.0))


def pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), int)


def amount(picture, color):
    """How many pixels have a colour, such as "#4477aa"."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return (abs(picture - wanted).max(-1) < 3).sum()


def test_calibration_of_known_scores():
    scores = np.array([0.0, 0.05, 0.1, 0.55, 0.59, 0.95, 1.0])
    right = np.array([0, 1, 0, 1, 1, 1, 1], bool)
    bins = curves.calibrate(scores, right)
    assert [(round(b.low, 6), round(b.high, 6)) for b in bins][:2] == [(0, 0.1), (0.1, 0.2)]
    assert [b.detections for b in bins] == [2, 1, 0, 0, 0, 2, 0, 0, 0, 2]
    assert bins[0].mean_score == pytest.approx(0.025) and bins[0].right == 0.5
    assert bins[5].mean_score == pytest.approx(0.57) and bins[5].right == 1
    assert np.isnan(bins[2].right) and np.isnan(bins[2].mean_score)


def test_every_score_is_in_one_bin_whatever_the_range():
    rng = np.random.default_rng(0)
    scores, right = rng.normal(0, 3, 500), rng.random(500) < 0.5
    bins = curves.calibrate(scores, right)
    assert sum(b.detections for b in bins) == 500
    assert sum(b.detections * b.right for b in bins if b.detections) == pytest.approx(right.sum())
    for part in bins:
        inside = (scores >= part.low) & (scores < part.high)
        inside |= (part is bins[-1]) & (scores == part.high)
        assert part.detections == inside.sum()
    assert [b.detections for b in curves.calibrate(np.zeros(0), np.zeros(0, bool))] == [0] * 10


def test_precision_recall_has_a_curve_a_threshold():
    known, unknown = (pixels(curves.precision_recall(c)) for c in (KNOWN, UNKNOWN))
    assert known.shape[0] > 400 and known.shape[1] > 600
    first = "#440154"  # viridis begins here
    assert amount(known, first) > amount(unknown, first) + 200


def test_the_oks_curve_shows_the_matched_detections():
    few, many = (
        pixels(curves.oks_curve(KNOWN, np.array(oks)))
        for oks in ([0.97], [0.97, 0.3, 0.3, 0.62, 0.5])
    )
    assert amount(many, curves.GREY) > 500 > amount(few, curves.GREY)  # not found: below 0.5
    assert pixels(curves.oks_curve(UNKNOWN, np.zeros(0))).shape == few.shape


def test_the_calibration_diagram_shows_full_bins():
    def picture(scores, right):
        return pixels(curves.calibration(curves.calibrate(np.array(scores), np.array(right, bool))))

    one, two = picture([0.55], [1]), picture([0.55, 0.25], [1, 0])
    assert amount(two, curves.BLUE) > 1.6 * amount(one, curves.BLUE)
    assert picture([], []).shape == one.shape


def test_the_bars_of_keypoints_are_as_long_as_their_shares():
    keypoints = np.array([[50, 25, 25, 0, 0], [0, 0, 0, 10, 10], [0, 0, 0, 0, 0]])
    picture = pixels(curves.keypoint_errors(keypoints, ("nose", "left_wrist", "right_wrist")))
    areas = [amount(picture, curves.KIND_COLORS[kind]) for kind in KEYPOINT_KINDS]
    legend = 700  # pixels, about
    good, jitter, inverted, swapped, missed = (area - legend for area in areas)
    for half in (swapped, missed):
        assert half == pytest.approx(good, rel=0.1)
    for quarter in (jitter, inverted):
        assert quarter == pytest.approx(good / 2, rel=0.1)
