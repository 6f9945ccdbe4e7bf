"""DEKR's own suppression: poses of which most keypoints are near each other are of one person."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pinet_jax.data import AnyArray


def near_poses(
    poses: Float[AnyArray, "n k 2"], distance: float, keypoints: int
) -> Bool[Array, "n n"]:
    """Whether pose j (column) is near pose i (row); not symmetric.

    Args:
        poses: (x, y) in any pixels.
        distance: a keypoint is near the same of pose i within so many diagonals of i's box.
        keypoints: more of them than this must be near.
    """
    poses = jnp.asarray(poses)
    sides = poses.max(1) - poses.min(1)
    reach = distance * jnp.sqrt((sides**2).sum(-1))
    apart = jnp.sqrt(((poses[:, None] - poses) ** 2).sum(-1))
    return (apart < reach[:, None, None]).sum(-1) > keypoints


def suppress(
    near: Bool[AnyArray, "n n"], heat: Float[AnyArray, " n"], valid: Bool[AnyArray, " n"], most: int
) -> tuple[Bool[Array, " n"], Int[Array, " n"]]:
    """Greedy suppression, as the released code goes.

    Going down the candidates, each that is not taken asks for the hottest of all those near
    it. Where that one is taken already, nothing happens: the asker is lost, its neighbours
    stay free. Otherwise that one is a person, and all near the asker are taken.

    Args:
        near: as of `near_poses`.
        heat: mean heat of each candidate's keypoints.
        valid: candidates that take part.
        most: persons; of more the hottest are kept.

    Returns:
        Which candidates are persons, and the index of the person that each candidate was
        taken for, -1 for none.
    """
    near, heat, valid = jnp.asarray(near) & valid, jnp.asarray(heat), jnp.asarray(valid)
    count = len(valid)

    def ask(number: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        persons, taken_for = state
        neighbours = near[number]
        hottest = jnp.argmax(jnp.where(neighbours, heat, -jnp.inf))
        asks = valid[number] & (taken_for[number] < 0) & neighbours.any()
        found = asks & (taken_for[hottest] < 0)
        persons = persons.at[hottest].set(persons[hottest] | found)
        return persons, jnp.where(found & neighbours & (taken_for < 0), hottest, taken_for)

    nobody = jnp.zeros(count, bool), jnp.full(count, -1, jnp.int32)
    persons, taken_for = jax.lax.fori_loop(0, count, ask, nobody)
    rank = jnp.argsort(jnp.argsort(jnp.where(persons, -heat, jnp.inf)))
    persons = persons & (rank < most)
    return persons, jnp.where(persons[taken_for] & (taken_for >= 0), taken_for, -1)
