"""R of a frame: padding, groups, memory, and what the network's form alone promises."""

import numpy as np
import pytest

from pinet_jax.config import load_config
from pinet_jax.tracking.correspondences import network, weights
from pinet_jax.tracking.correspondences.warping import Warper, padded, remember
from tests import tiny

SIZE = 64
RNG = np.random.default_rng(0)
VIEW = RNG.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


def warper(**tracking):
    fields = {"view_size": SIZE, "max_age": 2, **tracking}
    config = load_config("coco", {f"tracking.{name}": value for name, value in fields.items()})
    variables = tiny.random_variables(network.build(config))
    variables["params"]["scale"] = np.float32(200)  # of a network that is sure
    return Warper(config, weights.Weights(variables, tiny_keypoints()))


def tiny_keypoints():
    from pinet_jax import skeletons

    return skeletons.COCO.keypoints


def people(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, SIZE, (count, 17, 2)), rng.random((count, 17)) < 0.8


@pytest.fixture(scope="module")
def refined():
    return warper()


def test_a_person_is_found_alike_alone_and_in_a_crowd(refined):
    seen = refined.describe(VIEW)
    memory = remember(refined.nothing(seen), refined.describe(VIEW[::-1].copy()), 1)
    joints, valid = people(11)
    slots = np.ones(11, int)
    crowd = refined.warp(memory, seen, slots, joints, valid)
    alone = refined.warp(memory, seen, slots[:1], joints[9:10], valid[9:10])
    np.testing.assert_allclose(crowd.maps[9], alone.maps[0], atol=1e-5)
    assert crowd.maps.shape[0] == 16 and alone.maps.shape[0] == 8
    reads = refined.read(crowd, joints, 11)
    assert reads.shape == (11, 11, 17)
    np.testing.assert_array_equal(np.asarray(crowd.scores)[:11][~valid], 0)


def test_reads_are_at_the_nearest_cell_and_zero_outside(refined):
    seen = refined.describe(VIEW)
    joints, valid = people(2)
    warped = refined.warp(refined.nothing(seen), seen, np.zeros(2, int), joints, valid)
    places = np.full((3, 17, 2), 20.0)
    places[1] = [21.9, 22.1]
    places[2] = [-3, 20]
    reads, maps = refined.read(warped, places, 2), np.asarray(warped.maps)
    np.testing.assert_array_equal(reads[:, 0], maps[:2, :, 5, 5])
    np.testing.assert_array_equal(reads[:, 1], maps[:2, :, 6, 5])
    assert not reads[:, 2].any()


def test_a_still_frame_finds_every_joint_in_its_own_cell():
    plain = warper(refinement=False)
    seen = plain.describe(VIEW)
    memory = remember(plain.nothing(seen), seen, 2)
    joints, valid = people(3)
    warped = plain.warp(memory, seen, np.full(3, 2), joints, valid)
    there = valid & (np.asarray(warped.scores)[:3] > 0)
    cells = np.floor(joints / 4)
    apart = np.abs(np.asarray(warped.joints)[:3] / 4 - cells).max(-1)
    assert there.sum() == valid.sum()
    assert (apart[there] <= 2).all()  # R is A's mass in 5x5 cells


def test_frames_are_told_apart_by_their_slots():
    plain = warper(refinement=False)
    seen = plain.describe(VIEW)
    memory = remember(plain.nothing(seen), seen, 1)
    joints, valid = people(1)
    twice = np.concatenate([joints, joints]), np.concatenate([valid, valid])
    warped = plain.warp(memory, seen, np.array([0, 1]), *twice)
    empty, same = np.asarray(warped.scores)[:2][:, valid[0]]
    assert empty.max() < 0.2 < 0.5 < same.min()


def test_sizes_of_padding():
    sizes = (8, 16, 32, 80)
    assert [padded(n, sizes) for n in (0, 1, 8, 9, 33, 80, 81)] == [8, 8, 8, 16, 80, 80, 88]
