"""The checker of the test suite finds what does not fit its annotation."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from pinet_jax.evaluation.box_iou import nearest_iou
from pinet_jax.inference.fusion import People
from pinet_jax.methods.pinet import losses
from tests import shapes


def people(number: int = 2, scores: int = 2) -> People:
    return People(
        keypoints=np.zeros((number, 17, 2), np.float32),
        keypoint_scores=np.zeros((number, 17), np.float32),
        scores=np.zeros(scores, np.float32),
        valid=np.ones(number, bool),
    )


def test_what_fits_passes():
    assert nearest_iou(np.zeros((1, 4))).shape == (1,)
    people()


@pytest.mark.parametrize(
    "boxes", [np.zeros((1, 5)), np.zeros(4), np.zeros((1, 4), int), [[0.0] * 4]]
)
def test_a_wrong_shape_or_dtype_is_refused(boxes):
    with pytest.raises(TypeCheckError, match="boxes"):
        nearest_iou(boxes)


def test_sizes_of_one_name_must_agree():
    maps = jnp.zeros((1, 8, 8, 3))
    losses.heatmap_loss(maps, maps, maps)
    with pytest.raises(TypeCheckError, match="mask"):
        losses.heatmap_loss(maps, maps, jnp.zeros((1, 8, 8, 1)))


def test_inside_a_program_too():
    maps = jnp.zeros((1, 8, 8, 3))
    with pytest.raises(TypeCheckError, match="target"):
        jax.jit(losses.heatmap_loss)(maps, maps[:, :4], maps)


def test_a_pytree_is_checked_and_may_hold_what_stands_for_arrays():
    with pytest.raises(TypeCheckError, match="scores"):
        people(scores=3)
    assert jax.tree.map(np.shape, people()).scores == (2,)
    assert jax.eval_shape(lambda found: found, people()).valid.shape == (2,)


def test_arguments_that_are_wrong_on_purpose_can_get_through(unchecked):
    assert nearest_iou([[0.0] * 4]).shape == (1,)


def test_only_what_is_checked_is_compiled_with_checks():
    ours = shapes._compiled_file("by", losses.__file__)
    assert "jaxtyping" in ours and ours != importlib.util.cache_from_source(losses.__file__)
    plain = importlib.util.cache_from_source(np.__file__)
    assert shapes._compiled_file("by", np.__file__) == plain
