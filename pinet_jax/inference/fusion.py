"""OKS, pose suppression and pose fusion (PINet eq. 11 and Algorithm 1).

Everything has static shapes: candidates carry a validity mask, and an invalid one
changes nothing.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from pinet_jax.data import AnyArray
from pinet_jax.inference import nearness


@struct.dataclass
class People:
    """The people of each image, by falling score, those not valid last.

    Attributes:
        keypoints: (x, y) in image pixels; 0 where not valid.
        keypoint_scores: r of eq. 11; 0 outside the image and where not valid.
        scores: mean of a person's keypoint scores, times the OKS that a scoring net predicts
            where there is one; 0 where not valid.
        valid: whether there is a person.
    """

    keypoints: Float[AnyArray, "*b n k 2"]
    keypoint_scores: Float[AnyArray, "*b n k"]
    scores: Float[AnyArray, "*b n"]
    valid: Bool[AnyArray, "*b n"]

    def of_image(self, row: int) -> "People":
        """The valid people of image `row` of a batch; outside jit."""
        valid = self.valid[row]
        return jax.tree.map(lambda array: array[row][valid], self)


def pose_area(poses: Float[AnyArray, "*n k 2"]) -> Float[AnyArray, "*n"]:
    """Area of the box around each pose's keypoints."""
    return (poses.max(-2) - poses.min(-2)).prod(-1)


def oks_matrix(poses: Float[AnyArray, "n k 2"], sigmas: Sequence[float]) -> Float[Array, "n n"]:
    """Object keypoint similarity of every two poses, their mean area as the scale.

    Args:
        poses: (x, y), in the pixels of the image.
        sigmas: the skeleton's K constants.
    """
    area = pose_area(poses)
    mean_area = jnp.maximum((area[:, None] + area) / 2, jnp.finfo(poses.dtype).tiny)
    variance = (2 * jnp.array(sigmas, poses.dtype)) ** 2
    distance2 = ((poses[:, None] - poses) ** 2).sum(-1)
    # XLA fuses all of this into the mean: no [n, n, k] array is ever in memory.
    return jnp.exp(-distance2 / variance / mean_area[..., None] / 2).mean(-1)


def suppress(similar: Bool[Array, "n n"], valid: Bool[Array, " n"]) -> Int[Array, " n"]:
    """Greedy suppression: the leader of each candidate's group.

    Going down the candidates, one that no earlier leader took becomes a leader and
    takes every later candidate similar to it.

    Args:
        similar: symmetric; candidates are ordered, the best first.
        valid: candidates that take part.

    Returns:
        Index of the leader of each candidate, its own for leaders and for invalid ones.
    """
    count = valid.shape[0]
    taken_by = jnp.triu(similar, 1) & valid[:, None] & valid  # [leader, later candidate]

    # "Valid and similar to no earlier leader" fixes the leaders: of any guess, one more
    # candidate is right for good after each pass, and a few passes settle them all.
    def correct(state: tuple[Array, Array]) -> tuple[Array, Array]:
        leads, _ = state
        return valid & ~(taken_by & leads[:, None]).any(0), leads

    def changing(state: tuple[Array, Array]) -> Array:
        return (state[0] != state[1]).any()

    leads, _ = jax.lax.while_loop(changing, correct, (valid, jnp.zeros_like(valid)))
    takers = taken_by & leads[:, None]
    return jnp.where(takers.any(0), takers.argmax(0), jnp.arange(count))


def fuse(
    poses: Float[Array, "n k 2"],
    keypoint_scores: Float[Array, "n k"],
    leader: Int[Array, " n"],
) -> tuple[Float[Array, "n k 2"], Float[Array, "n k"]]:
    """Pose fusion (PINet eq. 11): each keypoint from the group member surest of it.

    Args:
        poses: candidates, the best first, so that a group's leader is its first.
        keypoint_scores: r; of equal ones the first member's is taken.
        leader: of each candidate.

    Returns:
        Fused keypoints and their scores, at the leaders' indices; the other rows mean
        nothing.
    """
    count = poses.shape[0]
    highest = jax.ops.segment_max(keypoint_scores, leader, count)
    member = jnp.where(keypoint_scores == highest[leader], jnp.arange(count)[:, None], count)
    surest = jnp.minimum(jax.ops.segment_min(member, leader, count), count - 1)
    return (
        jnp.take_along_axis(poses, surest[..., None], 0),
        jnp.take_along_axis(keypoint_scores, surest, 0),
    )


def join(
    poses: Float[AnyArray, "b n k 2"],
    keypoint_scores: Float[AnyArray, "b n k"],
    valid: Bool[AnyArray, "b n"],
    sigmas: Sequence[float],
    oks_threshold: float,
    pose_fusion: bool,
) -> tuple[People, Int[Array, "b n"]]:
    """The people that candidates make, and which of them each candidate became part of.

    Args:
        poses: candidates, (x, y) in image pixels.
        keypoint_scores: r = r_p * r_k of their keypoints; a candidate's score, by which
            leaders are chosen, is the mean of its r.
        valid: candidates there are.
        sigmas: the skeleton's K constants.
        oks_threshold: a candidate with a larger OKS joins the leader.
        pose_fusion: fuse each group; else its leader is the person.

    Returns:
        The people, and the index of the person that each candidate became part of, -1
        for what is no candidate.
    """

    def one_image(
        poses: Array, keypoint_scores: Array, valid: Array
    ) -> tuple[People, Int[Array, " n"]]:
        order = jnp.argsort(jnp.where(valid, -keypoint_scores.mean(-1), jnp.inf))
        poses, keypoint_scores, valid = poses[order], keypoint_scores[order], valid[order]
        leader = suppress(oks_matrix(poses, sigmas) > oks_threshold, valid)
        is_leader = valid & (leader == jnp.arange(len(leader)))
        if pose_fusion:
            poses, keypoint_scores = fuse(poses, keypoint_scores, leader)
        people, rank = _best_first(poses, keypoint_scores, keypoint_scores.mean(-1), is_leader)
        person = jnp.zeros_like(rank).at[order].set(jnp.where(valid, rank[leader], -1))
        return people, person

    return jax.vmap(one_image)(poses, keypoint_scores, valid)


def join_near(
    poses: Float[Array, "b n k 2"],
    keypoint_scores: Float[Array, "b n k"],
    heat: Float[Array, "b n"],
    valid: Bool[Array, "b n"],
    distance: float,
    keypoints: int,
    max_people: int,
) -> tuple[People, Int[Array, "b n"]]:
    """`join` by DEKR's own suppression: the hottest of the poses near each other.

    Args:
        poses: candidates, (x, y) in image pixels.
        keypoint_scores: r of their keypoints; their mean is a person's score.
        heat: mean of the keypoints' own scores, without that of the centre.
        valid: candidates there are.
        distance: as of `nearness.near_poses`.
        keypoints: as of `nearness.near_poses`.
        max_people: kept an image.
    """

    def one_image(
        poses: Array, keypoint_scores: Array, heat: Array, valid: Array
    ) -> tuple[People, Int[Array, " n"]]:
        near = nearness.near_poses(poses, distance, keypoints)
        kept, taken_for = nearness.suppress(near, heat, valid, max_people)
        people, rank = _best_first(poses, keypoint_scores, keypoint_scores.mean(-1), kept)
        return people, jnp.where(taken_for < 0, -1, rank[taken_for])

    return jax.vmap(one_image)(poses, keypoint_scores, heat, valid)


def rescore(people: People, factors: Float[Array, "b n"]) -> tuple[People, Int[Array, "b n"]]:
    """The people with their scores times `factors`, and the new place of each."""
    rows = people.keypoints, people.keypoint_scores, people.scores * factors, people.valid
    return jax.vmap(_best_first)(*rows)


def _best_first(
    poses: Float[Array, "n k 2"],
    keypoint_scores: Float[Array, "n k"],
    scores: Float[Array, " n"],
    valid: Bool[Array, " n"],
) -> tuple[People, Int[Array, " n"]]:
    """The people by falling score, and the place of each row among them."""
    order = jnp.argsort(jnp.where(valid, -scores, jnp.inf))
    valid = valid[order]
    people = People(
        keypoints=jnp.where(valid[:, None, None], poses[order], 0),
        keypoint_scores=jnp.where(valid[:, None], keypoint_scores[order], 0),
        scores=jnp.where(valid, scores[order], 0),
        valid=valid,
    )
    return people, jnp.argsort(order)
