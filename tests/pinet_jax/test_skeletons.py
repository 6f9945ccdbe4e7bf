import dataclasses

import pytest

from configs import base
from pinet_jax import skeletons
from pinet_jax.config import read_config, save_config
from pinet_jax.errors import UserError

EVERY = pytest.mark.parametrize(
    "skeleton", [skeletons.COCO, skeletons.CROWDPOSE, skeletons.POSETRACK]
)


@EVERY
def test_flip_order_is_an_involution_that_swaps_sides(skeleton):
    for k, twin in enumerate(skeleton.flip_order):
        assert skeleton.flip_order[twin] == k
        name, other = skeleton.keypoints[k], skeleton.keypoints[twin]
        sides = {name.split("_")[0], other.split("_")[0]}
        assert name == other or sides == {"left", "right"}
        assert name.split("_")[-1] == other.split("_")[-1]


@EVERY
def test_facts_agree_in_number_and_range(skeleton):
    count = skeleton.num_keypoints
    assert len(set(skeleton.keypoints)) == len(skeleton.sigmas) == count
    assert all(0 < sigma < 0.2 for sigma in skeleton.sigmas)
    assert {k for limb in skeleton.limbs for k in limb} == set(range(count))
    assert len({frozenset(limb) for limb in skeleton.limbs}) == len(skeleton.limbs)


@EVERY
def test_limbs_and_sigmas_are_the_same_on_both_sides(skeleton):
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    mirrored = {frozenset(skeleton.flip_order[k] for k in limb) for limb in limbs}
    assert limbs == mirrored
    for k, twin in enumerate(skeleton.flip_order):
        assert skeleton.sigmas[k] == skeleton.sigmas[twin]


@EVERY
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


@EVERY
def test_parts_change_places_as_their_keypoints_do(skeleton):
    for name, parts in skeleton.partitions.items():
        order = skeleton.part_flip_order(parts)
        for part, twin in zip(parts, order, strict=True):
            assert {skeleton.flip_order[k] for k in part} == set(parts[twin])
        assert (order == tuple(range(len(parts)))) == (name in ("center", "head", "part-large"))


def test_a_partition_without_the_other_side_cannot_be_flipped():
    with pytest.raises(UserError, match=r"eval.flip: .*'stick'.*\(left_hand\).*to False"):
        STICK.part_flip_order(((0,), (1,)))


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


STICK = skeletons.Skeleton(
    name="stick",
    keypoints=("head", "left_hand", "right_hand"),
    flip_order=skeletons.mirror(("head", "left_hand", "right_hand")),
    limbs=((0, 1), (0, 2)),
    sigmas=(0.05, 0.06, 0.06),
    partitions={"part-large": ((0,), (1, 2))},
)


def test_a_skeleton_of_ones_own_travels_with_the_config(tmp_path):
    assert STICK.flip_order == (0, 2, 1)
    config = base.get_config()
    assert skeletons.of(config) == skeletons.COCO
    skeletons.use(config, STICK)
    assert skeletons.of(config.lock()) == STICK
    save_config(tmp_path, config)
    assert skeletons.of(read_config(tmp_path)) == STICK


def test_lists_will_do():
    lists = skeletons.Skeleton(
        name="stick",
        keypoints=list(STICK.keypoints),
        flip_order=list(STICK.flip_order),
        limbs=[[0, 1], [0, 2]],
        sigmas=list(STICK.sigmas),
        partitions={"part-large": [[0], [1, 2]]},
    )
    assert lists == STICK
    hash(lists.parts("part-large"))


def test_a_known_name_is_not_given_twice():
    config = base.get_config()
    with pytest.raises(UserError, match="'coco': a known one is called so"):
        skeletons.use(config, dataclasses.replace(STICK, name="coco"))
    assert skeletons.of(config) == skeletons.COCO
    skeletons.use(config, skeletons.CROWDPOSE)
    assert skeletons.of(config) == skeletons.CROWDPOSE


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("keypoints", ("head", "head", "hand"), "stands twice"),
        ("flip_order", (0, 2), "flip_order must swap pairs of the 3"),
        ("flip_order", (1, 2, 0), "flip_order must swap pairs"),
        ("limbs", ((0, 3),), "limbs must join two keypoints each, of 0 to 2"),
        ("limbs", ((0, 1, 2),), "limbs must join two"),
        ("limbs", ((1, 1),), "limbs must join two"),
        ("sigmas", (0.1, 0.1), "sigmas must be 3 numbers above 0"),
        ("sigmas", (0.1, 0.1, 0.0), "sigmas must be 3 numbers above 0"),
        ("partitions", {}, "no parts"),
        ("partitions", {"part-large": ((0, 5),)}, "every part must hold keypoints 0 to 2"),
    ],
)
def test_a_skeleton_that_does_not_fit_together_is_refused(field, value, words):
    with pytest.raises(UserError, match=f"Skeleton 'stick': .*{words}"):
        dataclasses.replace(STICK, **{field: value})


def test_a_side_without_its_other_is_refused():
    with pytest.raises(UserError, match="'left_hand' has no mirror image 'right_hand'"):
        skeletons.mirror(("head", "left_hand"))
