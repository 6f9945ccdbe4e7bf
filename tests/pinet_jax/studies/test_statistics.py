import numpy as np
import pytest

from pinet_jax.evaluation.resampling import Tally, draws
from pinet_jax.studies import statistics
from pinet_jax.studies.statistics import Interval, Scores, difference, drawn_precision, verdict


def scores(ap, drawn):
    return Scores(np.array(ap, float), np.array(drawn, float))


def noisy(mean, rng, shared, seeds=3, count=400):
    """Scores of a row of that mean: seeds scatter, and draws of images move all rows alike."""
    ap = mean + rng.normal(0, 0.01, seeds)
    return scores(ap, ap[:, None] + shared + rng.normal(0, 0.001, (seeds, count)))


def test_what_draws_of_images_do_to_both_rows_cancels():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.1, 400)  # far more than the rows differ
    better, worse = noisy(0.55, rng, shared), noisy(0.5, rng, shared)
    seeds = statistics.seed_draws(3, 400, 0)
    found = difference(better, worse, seeds, 0.95)
    assert found.value == pytest.approx(better.ap.mean() - worse.ap.mean())
    assert 0 < found.low < found.value < found.high < 0.1


def test_the_mean_of_a_draw_is_of_the_seeds_drawn():
    row = scores([0.1, 0.3], [[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]])
    value, drawn = statistics.mean_of(row, np.array([[0, 0], [0, 1], [1, 1]]))
    assert value == pytest.approx(0.2)
    np.testing.assert_allclose(drawn, [0.1, 0.4, 0.7])
    np.testing.assert_allclose(statistics.mean_of(row, None)[1], [0.3, 0.4, 0.5])


def test_more_confidence_is_a_wider_interval():
    drawn = np.random.default_rng(0).normal(0, 1, 1000)
    narrow, wide = (statistics.interval(0.0, drawn, c) for c in (0.8, 0.95))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert narrow.half == pytest.approx(1.28, abs=0.1)


@pytest.mark.parametrize(
    ("found", "earlier", "at_least", "word"),
    [
        (Interval(0.03, 0.01, 0.05), 0.02, False, "held"),
        (Interval(-0.03, -0.05, -0.01), -0.02, False, "reversed"),
        (Interval(0.03, -0.01, 0.07), 0.02, False, "not resolved"),
        (Interval(0.03, 0.01, 0.05), -0.02, False, "not settled"),
        (Interval(0.0, 0.0, 0.0), 0.0, True, "held"),
        (Interval(0.01, 0.0, 0.02), 0.0, True, "held"),
        (Interval(0.01, 0.0, 0.02), 0.0, False, "not resolved"),
        (Interval(0.01, -0.01, 0.02), 0.0, True, "not resolved"),
        (Interval(-0.01, -0.02, 0.0), 0.0, True, "not resolved"),
        (Interval(-0.02, -0.03, -0.01), 0.0, True, "reversed"),
        (Interval(0.0, 0.0, 0.0), 0.0, False, "not resolved"),
    ],
)
def test_verdicts(found, earlier, at_least, word):
    assert verdict(found, earlier, at_least) == word


def test_ap_of_draws_scatters_about_that_of_the_images():
    rng = np.random.default_rng(0)
    images, found = 200, 400
    right = rng.random((10, found)) < np.linspace(0.9, 0.3, found)
    tally = Tally(
        image=rng.integers(images, size=found),
        right=right,
        counted=np.ones_like(right),
        persons=np.full(images, 2),
    )
    drawn = drawn_precision(tally, draws(images, 200, 0))
    (once,) = drawn_precision(tally, np.ones((1, images), int))
    assert abs(drawn.mean() - once) < drawn.std()
    assert 0 < drawn.std() < 0.1
