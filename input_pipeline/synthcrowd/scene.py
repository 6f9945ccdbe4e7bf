"""Who stands where: people of a scene in camera coordinates, crowded as wished.

Camera frame: x right and y down in pixels (pixel centres at integers), z away from
the camera in pixels too. The camera is orthographic; a person's own scale stands in
for the distance, and nearer people get smaller z.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from ml_collections import ConfigDict

from input_pipeline.synthcrowd import body

_VARIANTS = 6  # bodies tried for each person
_CANDIDATES = 512  # places tried for each person
_PILE_COST = 0.1  # of IoU with others than the nearest, in units of missing the wish
_TILT = 0.2  # radians the camera looks down at most; up, half of that
_BODY_CHANCES = 1 + body.POSE_CHANCES + body.SHAPE_CHANCES


class People(NamedTuple):
    """P people in the camera frame; `valid` marks the real ones."""

    capsules: body.Capsules  # [P, N, ...]
    keypoints: Float[Array, "p k 3"]
    boxes: Float[Array, "p 4"]  # x0, y0, x1, y1 of the whole silhouette, unclipped
    scale: Float[Array, " p"]  # standing height in pixels
    valid: Bool[Array, " p"]


def box_iou(a: Float[Array, "... 4"], b: Float[Array, "... 4"]) -> Float[Array, "..."]:
    """IoU of corner boxes x0, y0, x1, y1; 0 where a box is empty."""
    size = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    both = jnp.prod(jnp.maximum(size, 0), axis=-1)
    union = box_area(a) + box_area(b) - both
    return both / jnp.maximum(union, 1e-6)


def box_area(box: Float[Array, "... 4"]) -> Float[Array, "..."]:
    """Area of corner boxes; 0 where one is empty."""
    return jnp.prod(jnp.maximum(box[..., 2:] - box[..., :2], 0), axis=-1)


def clip_box(box: Float[Array, "... 4"], size: int) -> Float[Array, "... 4"]:
    """Corner boxes clipped to the outermost pixel centres of a square image."""
    return jnp.clip(box, 0, size - 1)


def sample_people(key: PRNGKeyArray, config: ConfigDict) -> People:
    """Between the fewest and the most people of `config.people`, placed.

    Each person is drawn as several bodies and many places; the one that brings the
    mean IoU of every box with its nearest to `config.pair_iou` is taken.
    """
    fewest, most = config.people
    plan_key, body_key, place_key = jax.random.split(key, 3)
    crowd, tilt, gap, *noise = jax.random.uniform(plan_key, (3 + most,))
    count = fewest + jnp.int32(crowd * (most + 1 - fewest))
    tilt = _TILT * (1.5 * tilt - 0.5)
    chances = jax.random.uniform(body_key, (most, _VARIANTS, _BODY_CHANCES))
    sample = jax.vmap(jax.vmap(lambda row: _sample_body(row, tilt, config.yaw)))
    capsules, keypoints = sample(chances)
    boxes = person_box(capsules)
    valid = jnp.arange(most) < count
    variant, scale, origin = _place(place_key, boxes, valid, config)

    def pick(array: Array) -> Array:
        return array[jnp.arange(most), variant]

    def to_image(points: Array) -> Array:
        return points * scale[:, None, None] + origin[:, None]

    capsules = jax.tree.map(pick, capsules)
    placed = pick(boxes) * scale[:, None] + jnp.tile(origin[:, :2], 2)
    origin = origin.at[:, 2].set(depths(placed[:, 3], scale, jnp.stack(noise), gap))
    capsules = body.Capsules(
        to_image(capsules.start), to_image(capsules.end), capsules.radius * scale[:, None, None]
    )
    return People(capsules, to_image(pick(keypoints)), placed, scale, valid)


def _sample_body(
    chances: Float[Array, " c"], tilt: Float[Array, ""], yaw: float
) -> tuple[body.Capsules, Float[Array, "k 3"]]:
    """A random body about its pelvis, in camera axes and standing heights."""
    turn, pose, shape = jnp.split(chances, [1, 1 + body.POSE_CHANCES])
    capsules, keypoints = body.assemble(body.sample_pose(pose), body.sample_shape(shape))
    turn = jnp.deg2rad(yaw) * (2 * turn[0] - 1)
    frame = camera_axes(turn, tilt)
    start, end = capsules.start @ frame.T, capsules.end @ frame.T
    return body.Capsules(start, end, capsules.radius), keypoints @ frame.T


def camera_axes(turn: Float[Array, ""], tilt: Float[Array, ""]) -> Float[Array, "3 3"]:
    """Body to camera axes for a person turned to its left and a camera looking down.

    At turn 0 the person faces the camera, its left side on the right of the image.
    """
    flip = jnp.diag(jnp.asarray([1.0, -1.0, -1.0]))
    return flip @ body.rotation(0, tilt) @ body.rotation(1, turn)


def capsule_box(capsules: body.Capsules) -> Float[Array, "*b 4"]:
    """Corner boxes of projected capsules; exact, as a cone's hull is that of its end balls.

    Those that are not there get an inverted box, which touches nothing.
    """
    ends = jnp.stack([capsules.start, capsules.end], axis=-2)[..., :2]
    radius = capsules.radius[..., None]
    low = jnp.min(jnp.where(radius > 0, ends - radius, jnp.inf), axis=-2)
    high = jnp.max(jnp.where(radius > 0, ends + radius, -jnp.inf), axis=-2)
    return jnp.concatenate([low, high], axis=-1)


def person_box(capsules: body.Capsules) -> Float[Array, "*b 4"]:
    """Corner boxes of people, around all their capsules."""
    boxes = capsule_box(capsules)
    low, high = jnp.min(boxes[..., :2], axis=-2), jnp.max(boxes[..., 2:], axis=-2)
    return jnp.concatenate([low, high], axis=-1)


def _place(
    key: PRNGKeyArray, boxes: Float[Array, "p m 4"], valid: Bool[Array, " p"], config: ConfigDict
) -> tuple[Int[Array, " p"], Float[Array, " p"], Float[Array, "p 3"]]:
    """Body variant, scale in pixels and origin of each person, one after another."""
    size, most = config.image_size, len(valid)
    chances = jax.random.uniform(key, (most, 7, _CANDIDATES))

    def step(placed: Array, inputs: tuple) -> tuple[Array, tuple]:
        index, chance, variants = inputs
        variant, scale, origin, whole = _candidates(chance, variants, placed, index, config)
        clipped = clip_box(whole, size)
        cost = _crowding_cost(clipped, placed, index, config.pair_iou)
        inside = box_area(clipped) / jnp.maximum(box_area(whole), 1e-6)
        cost += 2.0 * jnp.maximum(0.8 - inside, 0)
        best = jnp.argmin(cost)
        placed = placed.at[index].set(jnp.where(valid[index], clipped[best], 0))
        return placed, (variant[best], scale[best], origin[best])

    _, (variant, scale, origin) = jax.lax.scan(
        step, jnp.zeros((most, 4)), (jnp.arange(most), chances, boxes)
    )
    return variant, scale, jnp.pad(origin, ((0, 0), (0, 1)))


def _candidates(
    chance: Float[Array, "7 c"],
    variants: Float[Array, "m 4"],
    placed: Float[Array, "p 4"],
    index: Int[Array, ""],
    config: ConfigDict,
) -> tuple[Array, Array, Array, Array]:
    """Random variants, scales and origins near one already placed person, and the boxes.

    The first person, and a third of the others' candidates, go anywhere.
    """
    n, size = _CANDIDATES, config.image_size
    variant = jnp.int32(chance[0] * len(variants))
    low, high = config.height
    scale = size * (low + (high - low) * chance[1])
    box = variants[variant] * scale[:, None]
    middle, extent = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    anchor = placed[jnp.int32(chance[2] * index)]
    spread = jnp.asarray([1.0, 0.25]) * extent
    near = (anchor[:, :2] + anchor[:, 2:]) / 2
    near += spread * (2 * chance[3:5].T - 1)
    room = jnp.maximum(size - extent, 0.1 * size)
    anywhere = size / 2 + room * (chance[5:].T - 0.5)
    free = (index == 0) | (jnp.arange(n) % 3 == 0)
    # Whole boxes only: the middle of the box goes where it was drawn.
    origin = jnp.where(free[:, None], anywhere, near) - middle
    return variant, scale, origin, box + jnp.tile(origin, (1, 2))


def _crowding_cost(
    boxes: Float[Array, "c 4"],
    placed: Float[Array, "p 4"],
    index: Int[Array, ""],
    wish: float | Float[Array, ""],
) -> Float[Array, " c"]:
    """How far each candidate leaves the mean IoU with the nearest from the wish."""
    among = jnp.arange(len(placed)) < index
    before = jnp.where(among[:, None] & among, box_iou(placed[:, None], placed), 0)
    before = jnp.max(before * (1 - jnp.eye(len(placed))), axis=1)
    new = jnp.where(among, box_iou(boxes[:, None], placed), 0)
    nearest = jnp.max(new, axis=1)
    total = nearest + jnp.sum(jnp.where(among, jnp.maximum(before, new), 0), axis=1)
    # Overlap with others than the nearest would pile everybody up behind one person.
    piled = jnp.sum(new, axis=1) - nearest
    cost = jnp.abs(total / (index + 1) - wish) + _PILE_COST * piled
    return jnp.where(index == 0, 0.0, cost)


def depths(
    feet: Float[Array, " p"], scale: Float[Array, " p"], noise: Float[Array, " p"], gap: Array
) -> Float[Array, " p"]:
    """Depths by which people whose feet are lower stand nearer, most of the time.

    The steps are about a chest deep, so that limbs of neighbours interlace. `noise` and
    `gap` are uniform in [0, 1).
    """
    rank = jnp.argsort(jnp.argsort(-(feet + 0.3 * scale * noise)))
    return rank * (0.16 + 0.19 * gap) * jnp.mean(scale)
