"""The losses of section 2 against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax.tracking.correspondences import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 2, (2, 3, 6, 8)).astype(np.float32)
TARGETS = RNG.uniform(0, 23, (2, 3, 2)).astype(np.float32)
POSITIVE = np.array([[True, False, True], [True, True, False]])


def cell(target):
    return int(target[1] // 4), int(target[0] // 4)


def test_stage_1_is_the_cross_entropy_at_the_true_cell():
    expected = []
    for b, q in zip(*np.nonzero(POSITIVE), strict=True):
        probability = np.exp(LOGITS[b, q]) / np.exp(LOGITS[b, q]).sum()
        expected.append(-np.log(probability[cell(TARGETS[b, q])]))
    found = losses.affinity_loss(LOGITS, TARGETS, POSITIVE, "softmax")
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_stage_1_as_binary_cross_entropy():
    expected = []
    for b, q in zip(*np.nonzero(POSITIVE), strict=True):
        a = np.exp(LOGITS[b, q]) / np.exp(LOGITS[b, q]).sum()
        near = slow_near(TARGETS[b, q])
        expected.append(-np.where(near, np.log(a), np.log1p(-a)).mean())
    found = losses.affinity_loss(LOGITS, TARGETS, POSITIVE, "bce")
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def slow_near(target):
    row, column = cell(target)
    rows, columns = np.mgrid[:6, :8]
    return (abs(rows - row) <= 1) & (abs(columns - column) <= 1)


@pytest.mark.parametrize("kind", ["plain", "balanced"])
def test_stage_2_wants_nothing_of_an_absent_joint(kind):
    valid = np.array([[True, True, True], [True, True, False]])
    expected = []
    for b, q in zip(*np.nonzero(valid), strict=True):
        r = 1 / (1 + np.exp(-LOGITS[b, q].astype(float)))
        near = slow_near(TARGETS[b, q]) & POSITIVE[b, q]
        ones, zeros = -np.log(r[near]), -np.log(1 - r[~near])
        if kind == "plain":
            expected.append(ones.sum() + zeros.sum())
        else:
            expected.append((ones.mean() if near.any() else 0) + zeros.mean())
    found = losses.refinement_loss(LOGITS, TARGETS, valid, POSITIVE, kind)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_found_is_within_three_cells():
    maps = np.zeros((3, 10, 10), np.float32)
    maps[0, 5, 8] = maps[1, 5, 9] = maps[2, 7, 7] = 1
    targets = jnp.full((3, 2), 4 * 5 + 1.0)
    there = jnp.ones(3, bool)
    assert losses.found(maps, targets, there).tolist() == [True, False, True]
    assert not losses.found(maps, targets, ~there).any()


def test_no_positive_gives_no_loss_and_no_nan():
    nobody = np.zeros((2, 3), bool)
    assert losses.affinity_loss(LOGITS, TARGETS, nobody, "softmax") == 0
    assert losses.refinement_loss(LOGITS, TARGETS, nobody, nobody, "plain") == 0
