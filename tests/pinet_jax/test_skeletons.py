import pytest

from pinet_jax import skeletons
from pinet_jax.errors import UserError

BOTH = pytest.mark.parametrize("skeleton", [skeletons.COCO, skeletons.CROWDPOSE])


@BOTH
def test_flip_order_is_an_involution_that_swaps_sides(skeleton):
    for k, twin in enumerate(skeleton.flip_order):
        assert skeleton.flip_order[twin] == k
        name, other = skeleton.keypoints[k], skeleton.keypoints[twin]
        sides = {name.split("_")[0], other.split("_")[0]}
        assert name == other or sides == {"left", "right"}
        assert name.split("_")[-1] == other.split("_")[-1]


@BOTH
def test_facts_agree_in_number_and_range(skeleton):
    count = skeleton.num_keypoints
    assert len(set(skeleton.keypoints)) == len(skeleton.sigmas) == count
    assert all(0 < sigma < 0.2 for sigma in skeleton.sigmas)
    assert {k for limb in skeleton.limbs for k in limb} == set(range(count))
    assert len({frozenset(limb) for limb in skeleton.limbs}) == len(skeleton.limbs)


@BOTH
def test_limbs_and_sigmas_are_the_same_on_both_sides(skeleton):
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    mirrored = {frozenset(skeleton.flip_order[k] for k in limb) for limb in limbs}
    assert limbs == mirrored
    for k, twin in enumerate(skeleton.flip_order):
        assert skeleton.sigmas[k] == skeleton.sigmas[twin]


@BOTH
def test_partitions(skeleton):
    sizes = {name: len(parts) for name, parts in skeleton.partitions.items()}
    assert sizes == {"center": 1, "head": 1, "part-large": 3, "part-small": 7, "keypoint": 13}
    assert skeleton.parts("center") == (tuple(range(skeleton.num_keypoints)),)
    assert skeleton.parts("head")[0] == skeleton.parts("part-large")[0]
    for name, parts in skeleton.partitions.items():
        joined = {k for part in parts for k in part}
        assert joined <= set(range(skeleton.num_keypoints))
        if name in ("part-small", "keypoint") and skeleton is skeletons.CROWDPOSE:
            assert joined == set(range(14))


def test_the_papers_parts():
    coco, crowdpose = skeletons.COCO, skeletons.CROWDPOSE
    assert coco.parts("part-large") == (
        (0, 1, 2, 3, 4), (5, 6, 11, 12), (11, 12, 13, 14, 15, 16),
    )  # fmt: skip
    assert crowdpose.parts("part-large") == ((12, 13), (0, 1, 6, 7), (6, 7, 8, 9, 10, 11))


def test_names():
    coco, crowdpose = skeletons.get("coco"), skeletons.get("crowdpose")
    assert (coco.num_keypoints, crowdpose.num_keypoints) == (17, 14)
    assert coco.keypoints[0] == "nose" and coco.keypoints[16] == "right_ankle"
    assert crowdpose.keypoints[0] == "left_shoulder" and crowdpose.keypoints[13] == "neck"
    assert coco.sigmas[11] == 0.107 and crowdpose.sigmas[6] == 0.107


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UserError, match=r"dataset.skeleton: no skeleton 'mpii'; .*crowdpose"):
        skeletons.get("mpii")
    with pytest.raises(UserError, match=r"model.partition: .*'legs'; .*part-large"):
        skeletons.COCO.parts("legs")
