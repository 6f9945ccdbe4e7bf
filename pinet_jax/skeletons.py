"""Keypoint sets: names, mirror order, limbs, OKS sigmas and body partitions.

Every fact about a skeleton lives here. `limbs` doubles as the skeleton graph of
the refinement's adjacency; `partitions` are the body partitions of the paper's
Fig. 3, each a tuple of parts, each part a tuple of keypoint indices.

A skeleton of one's own is a `Skeleton` in one's config file, handed to `use`; it
travels inside the config, and so with every checkpoint.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from pinet_jax.errors import UserError

Parts = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """A set of K keypoints. Lists will do for tuples; they become tuples.

    Attributes:
        name: how configs refer to it.
        keypoints: K names, in the order of the annotations.
        flip_order: K indices; keypoint k of a mirrored person is keypoint
            flip_order[k] of the original.
        limbs: pairs of keypoint indices joined by a bone.
        sigmas: K per-keypoint OKS constants.
        partitions: body partition name -> parts.

    Raises:
        UserError: the fields do not fit together.
    """

    name: str
    keypoints: Sequence[str]
    flip_order: Sequence[int]
    limbs: Sequence[Sequence[int]]
    sigmas: Sequence[float]
    partitions: Mapping[str, Sequence[Sequence[int]]]

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _with_tuples(getattr(self, field.name)))
        for wrong, fact in _inconsistencies(self):
            if wrong:
                raise UserError(f"Skeleton '{self.name}': {fact}.")

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoints)

    def parts(self, partition: str) -> Parts:
        """The parts of a body partition; UserError names the known ones."""
        if partition not in self.partitions:
            known = ", ".join(self.partitions)
            raise UserError(
                f"config.model.partition: skeleton '{self.name}' has no partition "
                f"'{partition}'; use one of {known}."
            )
        return self.partitions[partition]

    def part_flip_order(self, parts: Parts) -> tuple[int, ...]:
        """S indices: part j of a mirrored person is part part_flip_order(parts)[j] of the original.

        Raises:
            UserError: the mirror image of some part is no part.
        """
        sets = [frozenset(part) for part in parts]
        mirrored = [frozenset(self.flip_order[k] for k in part) for part in parts]
        for part, twin in zip(parts, mirrored, strict=True):
            if twin not in sets:
                names = ", ".join(self.keypoints[k] for k in sorted(part))
                raise UserError(
                    f"config.eval.flip: of skeleton '{self.name}' the part ({names}) stands in the "
                    "partition without its mirror image, so that mirrored images cannot be asked: "
                    "set config.eval.flip to False."
                )
        return tuple(map(sets.index, mirrored))


def mirror(names: tuple[str, ...]) -> tuple[int, ...]:
    """Index of each keypoint's mirror image, read off its left_/right_ name.

    Raises:
        UserError: one side of a pair is missing.
    """
    swap = {"left": "right", "right": "left"}

    def twin(name: str) -> str:
        side, _, rest = name.partition("_")
        return f"{swap[side]}_{rest}" if side in swap else name

    for name in names:
        if twin(name) not in names:
            raise UserError(f"Keypoint '{name}' has no mirror image '{twin(name)}': name both.")
    return tuple(names.index(twin(name)) for name in names)


def _with_tuples(value: Any) -> Any:
    """The value with tuples for the lists in it, however deep: hashable, as in a loaded config."""
    if isinstance(value, Mapping):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list | tuple) else value


def _inconsistencies(skeleton: Skeleton) -> list[tuple[bool, str]]:
    """(whether it is wrong, what is) of everything that can be."""
    count = len(skeleton.keypoints)
    every = set(range(count))
    flip = skeleton.flip_order
    used = {k for limb in skeleton.limbs for k in limb}
    parts = [part for partition in skeleton.partitions.values() for part in partition]
    return [
        (not count, "it has no keypoints"),
        (len(set(skeleton.keypoints)) < count, "a keypoint's name stands twice"),
        (
            sorted(flip) != sorted(every) or any(flip[flip[k]] != k for k in flip),
            f"flip_order must swap pairs of the {count} keypoints",
        ),
        (
            not used <= every or any(len(set(limb)) != 2 for limb in skeleton.limbs),
            f"limbs must join two keypoints each, of 0 to {count - 1}",
        ),
        (
            len(skeleton.sigmas) != count or min(skeleton.sigmas, default=1) <= 0,
            f"sigmas must be {count} numbers above 0",
        ),
        (not skeleton.partitions or not all(skeleton.partitions.values()), "it has no parts"),
        (
            not all(part and set(part) <= every for part in parts),
            f"every part must hold keypoints 0 to {count - 1}",
        ),
    ]


# Rows of what belongs together.
# fmt: off
_COCO_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)

COCO = Skeleton(
    name="coco",
    keypoints=_COCO_NAMES,
    flip_order=mirror(_COCO_NAMES),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6),
        (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072,
        0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
    partitions={
        "center": (tuple(range(17)),),
        "head": ((0, 1, 2, 3, 4),),
        "part-large": ((0, 1, 2, 3, 4), (5, 6, 11, 12), (11, 12, 13, 14, 15, 16)),
        "part-small": (
            (0, 1, 2, 3, 4), (5, 6), (7, 9), (8, 10),
            (11, 12), (13, 15), (14, 16),
        ),
        "keypoint": ((0, 1, 2, 3, 4), *((k,) for k in range(5, 17))),
    },
)

_CROWDPOSE_NAMES = (
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
)

CROWDPOSE = Skeleton(
    name="crowdpose",
    keypoints=_CROWDPOSE_NAMES,
    flip_order=mirror(_CROWDPOSE_NAMES),
    limbs=(
        (12, 13), (13, 0), (13, 1), (0, 2), (2, 4), (1, 3), (3, 5),
        (0, 6), (1, 7), (6, 7), (6, 8), (8, 10), (7, 9), (9, 11),
    ),
    sigmas=(
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
        0.087, 0.087, 0.089, 0.089, 0.079, 0.079,
    ),
    partitions={
        "center": (tuple(range(14)),),
        "head": ((12, 13),),
        "part-large": ((12, 13), (0, 1, 6, 7), (6, 7, 8, 9, 10, 11)),
        "part-small": ((12, 13), (0, 1), (2, 4), (3, 5), (6, 7), (8, 10), (9, 11)),
        "keypoint": ((12, 13), *((k,) for k in range(12))),
    },
)

# As COCO, with the head's ends for the eyes; the ears are never annotated.
_POSETRACK_NAMES = ("nose", "head_bottom", "head_top", *_COCO_NAMES[3:])

POSETRACK = Skeleton(
    name="posetrack",
    keypoints=_POSETRACK_NAMES,
    flip_order=mirror(_POSETRACK_NAMES),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6),
        (5, 7), (6, 8), (7, 9), (8, 10),
        (0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6),
    ),
    sigmas=(0.026, 0.079, 0.079, *COCO.sigmas[3:]),
    partitions=COCO.partitions,
)
# fmt: on

_SKELETONS = {skeleton.name: skeleton for skeleton in (COCO, CROWDPOSE, POSETRACK)}


def get(name: str) -> Skeleton:
    """The skeleton called `name`; UserError names the known ones."""
    if name not in _SKELETONS:
        known = ", ".join(_SKELETONS)
        raise UserError(f"config.dataset.skeleton: no skeleton '{name}'; use one of {known}.")
    return _SKELETONS[name]


def named_keypoints(names: Sequence[str]) -> Skeleton | None:
    """The known skeleton of exactly these keypoints, if there is one."""
    return next((s for s in _SKELETONS.values() if s.keypoints == tuple(names)), None)


def of(config: ConfigDict) -> Skeleton:
    """The skeleton that a config means: its own one, or a known one by name."""
    own = config.dataset.custom_skeleton
    if own and own.name == config.dataset.skeleton:
        return Skeleton(**own.to_dict())
    return get(config.dataset.skeleton)


def with_keypoints(count: int | None, config: ConfigDict) -> Skeleton | None:
    """The likeliest skeleton of so many keypoints: the config's own, or a known one."""
    likely = (COCO, CROWDPOSE, of(config))  # the last of a count wins
    return {skeleton.num_keypoints: skeleton for skeleton in likely}.get(count)


def use(config: ConfigDict, skeleton: Skeleton) -> None:
    """Makes `skeleton` that of an unlocked config; UserError if its name is another's."""
    if skeleton != _SKELETONS.get(skeleton.name, skeleton):
        raise UserError(f"Skeleton '{skeleton.name}': a known one is called so; rename it.")
    config.dataset.skeleton = skeleton.name
    fields = {field.name: getattr(skeleton, field.name) for field in dataclasses.fields(skeleton)}
    config.dataset.custom_skeleton = ConfigDict(fields)
