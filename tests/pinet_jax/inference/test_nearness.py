"""DEKR's own suppression against the released arrays and a slow reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax.errors import UserError
from pinet_jax.inference import fusion, predict
from pinet_jax.inference.nearness import near_poses, suppress
from tests import tiny
from tests.pinet_jax.methods.dekr import golden

PEOPLE = 30
DECREASE = 0.9


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_released_people(kind):
    want = golden.arrays("nms")
    poses, heat = want["candidates_xy"], read_heat(want)
    centers = comparable(want["center_scores"], want[f"{kind}/candidates_per_scale_descending"])
    distance = float(want[f"{kind}/nms_distance"])
    near = near_poses(poses, distance, 8)
    everybody = np.ones(len(poses), bool)
    kept, _ = jax.jit(suppress, static_argnums=3)(near, heat.mean(1), everybody, len(poses))
    wanted = want[f"{kind}/kept_index_before_the_cap_of_30"]
    np.testing.assert_array_equal(np.flatnonzero(kept), np.sort(wanted))
    scores = heat * centers[:, None]
    found, _ = fusion.join_near(
        *(jnp.array(x)[None] for x in (poses, scores, heat.mean(1), everybody)), distance, 8, PEOPLE
    )
    valid, order = found.valid[0], np.argsort(-want[f"{kind}/scores"], kind="stable")
    np.testing.assert_allclose(found.scores[0][valid], want[f"{kind}/scores"][order], atol=1e-5)
    people = np.concatenate([found.keypoints, found.keypoint_scores[..., None]], -1)[0, valid]
    np.testing.assert_allclose(people, want[f"{kind}/people_xy_score"][order], atol=1e-4)


def read_heat(want):
    """At whole pixels, and so on the map at full resolution."""
    heatmaps = want["heatmaps_u16"] / 65535
    height, width = heatmaps.shape[:2]
    x, y = np.floor(want["candidates_xy"]).astype(int).transpose(2, 0, 1)
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    return heatmaps[y, x, np.arange(17)].astype(np.float32)


def comparable(scores, counts):
    """Of three scales the second is scale 1."""
    if len(counts) == 1:
        return scores
    parts = np.split(scores, np.cumsum(counts)[:-1])
    top = parts[1].max()
    return np.concatenate(
        [part if n == 1 else part / part.max() * top * DECREASE for n, part in enumerate(parts)]
    )


def reference(poses, heat, valid, distance, count, most):
    """Candidate by candidate, with lists."""
    taken, kept = {}, []
    for i in range(len(poses)):
        if not valid[i] or i in taken:
            continue
        width, height = poses[i].max(0) - poses[i].min(0)
        near = [
            j
            for j in range(len(poses))
            if valid[j]
            and sum(
                np.hypot(*(poses[i, k] - poses[j, k])) < distance * np.hypot(width, height)
                for k in range(poses.shape[1])
            )
            > count
        ]
        if not near:
            continue
        hottest = max(near, key=lambda j: heat[j])
        if hottest in taken:
            continue
        kept.append(hottest)
        for j in near:
            taken.setdefault(j, hottest)
    kept = sorted(kept, key=lambda j: -heat[j])[:most]
    return set(kept), [taken[i] if taken.get(i) in kept else -1 for i in range(len(poses))]


@functools.cache
def compiled(distance, count, most):
    return jax.jit(
        lambda poses, heat, valid: suppress(near_poses(poses, distance, count), heat, valid, most)
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("most", [3, 40])
def test_it_goes_as_the_slow_reference(seed, most):
    rng = np.random.default_rng(seed)
    people = rng.uniform(0, 60, (6, 1, 5, 2))
    poses = (people + rng.normal(0, 4, (6, 6, 5, 2))).reshape(36, 5, 2).astype(np.float32)
    poses[7] = poses[7, 0]  # a box without a size is near nobody
    poses, heat = rng.permutation(poses), rng.random(36).astype(np.float32)
    valid = rng.random(36) > 0.2
    kept, taken_for = compiled(0.12, 2, most)(poses, heat, valid)
    persons, wanted = reference(poses, heat, valid, 0.12, 2, most)
    assert set(np.flatnonzero(kept)) == persons
    np.testing.assert_array_equal(taken_for, wanted)


def test_who_asks_for_somebody_taken_is_lost_and_its_neighbours_stay_free():
    near = np.eye(4, dtype=bool)
    near[0, 1] = near[2, 1] = near[2, 3] = True
    heat = np.array([0.1, 0.9, 0.2, 0.3], np.float32)
    kept, taken_for = suppress(near, heat, np.ones(4, bool), 4)
    np.testing.assert_array_equal(kept, [False, True, False, True])
    np.testing.assert_array_equal(taken_for, [1, 1, -1, 3])


def test_candidates_without_heat_are_refused():
    config = tiny.config(**{"eval.suppression": "dekr", "eval.pose_fusion": False})
    with pytest.raises(UserError, match="have no heat, which 'dekr' goes by: use 'oks'"):
        predict.join_people(object(), {}, config)
