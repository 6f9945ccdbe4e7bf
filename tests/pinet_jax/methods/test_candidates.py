"""What finding candidates has in common: mirrored views, scores of several scales."""

import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax.methods.candidates import ScaleCandidates, comparable, mirrored_view


def scale_candidates(*scores):
    scores = np.array([scores], np.float32)
    points = np.zeros((1, scores.shape[1], 2), np.float32)
    return ScaleCandidates(
        poses=points[:, :, None],
        proposals=points[:, :, None],
        centers=points,
        part=np.zeros(scores.shape, np.int32),
        part_scores=scores,
        valid=scores > 0,
    )


@pytest.mark.parametrize(
    ("scales", "scores", "want"),
    [
        ((0.5, 1.0), [(2, 1), (4, 3)], [(2, 1), (4, 3)]),  # 2 / 2 * 4 * 0.5
        ((0.5, 1.0), [(2, 1), (0, 0)], [(0.5, 0.25), (0, 0)]),
        ((1.0, 2.0), [(4, 3), (0, 0)], [(4, 3), (0, 0)]),
        ((0.5, 2.0), [(2, 1), (8, 0)], [(0.5, 0.25), (0.5, 0)]),
    ],
)
def test_part_scores_of_scales_are_made_comparable(scales, scores, want):
    found = comparable([scale_candidates(*s) for s in scores], scales, 0.5)
    np.testing.assert_allclose([f.part_scores[0] for f in found], want)


def test_mirrored_view():
    image = jnp.arange(1.0, 7).reshape(1, 1, 6, 1) * jnp.ones(3)
    np.testing.assert_array_equal(mirrored_view(image, 3)[0, 0, :, 0], [3, 2, 1, 0, 0, 0])
    np.testing.assert_array_equal(mirrored_view(image, 0)[0, 0, :, 0], [6, 5, 4, 3, 2, 1])
