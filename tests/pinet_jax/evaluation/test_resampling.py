import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinet_jax import skeletons
from pinet_jax.evaluation import resampling
from pinet_jax.evaluation.ground_truth import read_truth
from pinet_jax.evaluation.scoring import Scorer
from tests.pinet_jax.evaluation.scoring_cases import MOST, perturbed_crowd, write_truth

IMAGES = 12
RECALL = np.linspace(0, 1, 101)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A ground truth, results with everything that can happen, and their matches."""
    annotations, results = perturbed_crowd(np.random.default_rng(3), skeletons.COCO, IMAGES)
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    write_truth(path, annotations, image_ids=range(1, IMAGES + 1))
    truth = read_truth(path, skeletons.COCO)
    return annotations, results, Scorer(results, truth, skeletons.COCO, MOST)


def repeated(annotations, results, repeats, tmp_path):
    """The COCO tools' AP where each image stands as often as it is drawn."""
    new_annotations, new_results, number = [], [], 0
    for image_id, count in enumerate(repeats, start=1):
        for _ in range(count):
            number += 1
            for source, target in ((annotations, new_annotations), (results, new_results)):
                for entry in source:
                    if entry["image_id"] == image_id:
                        target.append({**copy.deepcopy(entry), "image_id": number})
    for identity, annotation in enumerate(new_annotations, start=1):
        annotation["id"] = identity
    path = write_truth(tmp_path / "again.json", new_annotations, image_ids=range(1, number + 1))
    truth = read_truth(path, skeletons.COCO)
    return Scorer(new_results, truth, skeletons.COCO, MOST).scores(["AP"])["AP"]


def test_all_images_once_give_the_ap_of_the_coco_tools(crowd):
    *_, scorer = crowd
    expected = scorer.scores(["AP"])["AP"]
    assert 0.05 < expected < 0.95
    found = resampling.average_precision(scorer.tally(), np.ones(IMAGES, int), RECALL)
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=IMAGES, max_size=IMAGES).filter(any))
def test_drawn_images_count_as_if_they_stood_there_as_often(crowd, tmp_path_factory, repeats):
    annotations, results, scorer = crowd
    expected = repeated(annotations, results, repeats, tmp_path_factory.mktemp("again"))
    found = resampling.average_precision(scorer.tally(), np.array(repeats), RECALL)
    assert found == pytest.approx(expected, abs=1e-12)


def test_some_persons_alone(crowd):
    *_, scorer = crowd
    wanted = {p["id"] for p in scorer.truth.persons if p["id"] % 2}
    some = scorer.finding(wanted)
    found = resampling.average_precision(some.tally(), np.ones(IMAGES, int), RECALL)
    assert found == pytest.approx(some.scores(["AP"])["AP"], abs=1e-12)


def test_without_a_person_there_is_no_ap(crowd):
    *_, scorer = crowd
    assert resampling.average_precision(scorer.tally(), np.zeros(IMAGES, int), RECALL) == -1


def test_draws_are_with_replacement_and_reproducible():
    repeats = resampling.draws(IMAGES, 50, seed=1)
    assert repeats.shape == (50, IMAGES)
    assert (repeats.sum(1) == IMAGES).all()
    assert repeats.max() > 1
    np.testing.assert_array_equal(repeats, resampling.draws(IMAGES, 50, seed=1))
    assert (repeats != resampling.draws(IMAGES, 50, seed=2)).any()
