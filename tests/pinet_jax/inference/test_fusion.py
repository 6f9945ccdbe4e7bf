import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinet_jax import skeletons
from pinet_jax.inference import fusion
from tests.paths import GOLDEN

SIGMAS = skeletons.COCO.sigmas
OKS_MATRIX = jax.jit(lambda poses: fusion.oks_matrix(poses, SIGMAS))


@functools.partial(jax.jit, static_argnames="pose_fusion")
def run(poses, keypoint_scores, valid, pose_fusion=True):
    return fusion.join(poses, keypoint_scores, valid, SIGMAS, 0.7, pose_fusion)[0]


def slow_oks(a, b):
    areas = [np.prod(pose.max(0) - pose.min(0)) for pose in (a, b)]
    distance2 = ((a - b) ** 2).sum(-1)
    return np.mean(np.exp(-distance2 / (2 * np.array(SIGMAS)) ** 2 / (sum(areas) / 2) / 2))


def slow_groups(poses, scores):
    """Lists of candidate indices, each group's leader first."""
    left = sorted(range(len(poses)), key=lambda i: -scores[i])
    groups = []
    while left:
        leader = left[0]
        group = [i for i in left if i == leader or slow_oks(poses[leader], poses[i]) > 0.7]
        left = [i for i in left if i not in group]
        groups.append(group)
    return groups


def slow_people(poses, keypoint_scores, pose_fusion):
    """(keypoints, keypoint_scores, score) of each person, the best first."""
    people = []
    for group in slow_groups(poses, keypoint_scores.mean(-1)):
        members = group if pose_fusion else group[:1]
        surest = [max(members, key=lambda i: keypoint_scores[i, k]) for k in range(len(SIGMAS))]
        r = np.array([keypoint_scores[i, k] for k, i in enumerate(surest)])
        people.append((np.array([poses[i, k] for k, i in enumerate(surest)]), r, r.mean()))
    return sorted(people, key=lambda person: -person[2])


def crowd(seed, count=40, people=6):
    """Noisy duplicates of a few people; some keypoint scores are 0, some negative."""
    rng = np.random.default_rng(seed)
    person = rng.uniform(0, 300, (people, 1, 2)) + rng.uniform(-60, 60, (people, 17, 2))
    noise = rng.choice([0.5, 6, 12], (count, 1, 1)) * rng.normal(size=(count, 17, 2))
    poses = person[rng.integers(people, size=count)] + noise
    scores = rng.uniform(-0.2, 1, (count, 17)) * (rng.random((count, 17)) > 0.2)
    return poses.astype(np.float32), scores.astype(np.float32)


def assert_people(people, want):
    count = int(people.valid[0].sum())
    assert count == len(want)
    assert people.valid[0, :count].all()
    for i, (keypoints, r, score) in enumerate(want):
        np.testing.assert_array_equal(people.keypoints[0, i], keypoints)
        np.testing.assert_array_equal(people.keypoint_scores[0, i], r)
        np.testing.assert_allclose(people.scores[0, i], score, atol=1e-6)
    for field in (people.keypoints, people.keypoint_scores, people.scores):
        assert not np.any(field[0, count:])


def test_golden():
    golden = np.load(GOLDEN / "fusion_coco.npz")
    candidates = golden["candidates_xy_score"].astype(np.float32)
    people = run(candidates[None, ..., :2], candidates[None, ..., 2], np.ones((1, 84), bool))
    order = np.argsort(-golden["fused_scores"])
    fused = golden["fused_xy_score"][order].astype(np.float32)
    assert_people(
        people, list(zip(fused[..., :2], fused[..., 2], golden["fused_scores"][order], strict=True))
    )


def test_golden_groups():
    golden = np.load(GOLDEN / "fusion_coco.npz")
    order = np.argsort(-golden["candidate_scores"])
    poses = golden["candidates_xy_score"][order, :, :2].astype(np.float32)
    similar = OKS_MATRIX(poses) > golden["oks_threshold"]
    leader = fusion.suppress(similar, jnp.ones(84, bool))
    np.testing.assert_array_equal(order[leader], golden["leader_of_candidate"][order])
    assert set(order[leader]) == set(golden["kept_index"])


def test_oks_against_loops():
    poses, _ = crowd(0, 12)
    want = [[slow_oks(a, b) for b in poses] for a in poses]
    np.testing.assert_allclose(OKS_MATRIX(poses), want, atol=1e-5)


def test_oks_of_poses_without_area():
    poses = np.zeros((3, 17, 2), np.float32)
    poses[2] += 1
    np.testing.assert_array_equal(OKS_MATRIX(poses), [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


def test_oks_needs_no_memory_a_keypoint():
    """XLA must fuse the [n, n, k] terms into their mean, or 13 parts fill the device."""
    count = 300
    poses = jax.ShapeDtypeStruct((count, 17, 2), np.float32)
    compiled = OKS_MATRIX.lower(poses).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * 4 * count**2


@given(st.integers(0, 2**31), st.floats(0, 1))
@settings(deadline=None, max_examples=25)
def test_suppress_against_the_greedy_loop(seed, density):
    rng = np.random.default_rng(seed)
    similar = rng.random((20, 20)) < density
    similar |= similar.T
    valid = rng.random(20) < 0.8
    want = np.arange(20)
    left = [i for i in range(20) if valid[i]]
    while left:
        leader, *left = left
        taken = [i for i in left if similar[leader, i]]
        want[taken] = leader
        left = [i for i in left if i not in taken]
    np.testing.assert_array_equal(jax.jit(fusion.suppress)(similar, valid), want)


@pytest.mark.parametrize("pose_fusion", [True, False])
@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=15)
def test_people_against_loops(pose_fusion, seed):
    poses, scores = crowd(seed)
    people = run(poses[None], scores[None], np.ones((1, 40), bool), pose_fusion)
    assert_people(people, slow_people(poses, scores, pose_fusion))


@given(st.integers(0, 2**31))
@settings(deadline=None, max_examples=15)
def test_order_of_candidates_and_invalid_ones_change_nothing(seed):
    """Invalid candidates hold the best scores and real people's poses, shuffled in."""
    rng = np.random.default_rng(seed)
    poses, scores = crowd(seed, 25)
    order = rng.permutation(40)
    mixed_poses = np.concatenate([poses, poses[rng.integers(25, size=15)]])[order]
    mixed_scores = np.concatenate([scores, np.full((15, 17), 9, np.float32)])[order]
    people = run(mixed_poses[None], mixed_scores[None], (order < 25)[None])
    assert_people(people, slow_people(poses, scores, True))


def test_leader_keeps_a_keypoint_on_a_tie_and_zero_beats_negative():
    pose = np.random.default_rng(4).uniform(0, 100, (17, 2)).astype(np.float32)
    poses = np.stack([pose, pose + 0.25])
    scores = np.full((2, 17), 0.5, np.float32)
    scores[0, 0], scores[1, 0] = -1e-3, 0  # outside the map
    scores[1, 1] = 0.25  # makes candidate 0 the leader
    people = run(poses[None], scores[None], np.ones((1, 2), bool))
    np.testing.assert_array_equal(people.valid[0], [True, False])
    np.testing.assert_array_equal(people.keypoints[0, 0, 0], poses[1, 0])
    np.testing.assert_array_equal(people.keypoints[0, 0, 1:], poses[0, 1:])
    np.testing.assert_array_equal(people.keypoint_scores[0, 0, :2], [0, 0.5])


def test_no_candidates():
    poses, scores = crowd(5, 8)
    people = run(poses[None], scores[None], np.zeros((1, 8), bool))
    assert_people(people, [])


def test_images_of_a_batch_do_not_meet():
    crowds = [crowd(seed) for seed in (6, 7)]
    poses, scores = (np.stack(x) for x in zip(*crowds, strict=True))
    both = run(poses, scores, np.ones((2, 40), bool))
    for row in range(2):
        alone = run(poses[row : row + 1], scores[row : row + 1], np.ones((1, 40), bool))
        for field in ("keypoints", "keypoint_scores", "scores", "valid"):
            np.testing.assert_array_equal(getattr(alone, field)[0], getattr(both, field)[row])
