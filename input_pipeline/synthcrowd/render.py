"""Drawing a crowd with a depth buffer, and the ground truth that it gives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
from ml_collections import ConfigDict

from input_pipeline.synthcrowd import body
from input_pipeline.synthcrowd.background import sample_background
from input_pipeline.synthcrowd.scene import People, capsule_box, clip_box, sample_people
from pinet_jax.runtime import devices

SUPERSAMPLE = 2  # rays a pixel, along each axis
FAR = 1e9  # depth where nothing is hit
TILE = 16  # pixels along each axis of what is rendered at a time


class Scene(NamedTuple):
    """A picture and its people; P is the most a scene may hold, the rest is zero.

    image: RGB.
    keypoints: COCO order, x and y in pixels (centres at integers) and v: 2 seen,
        1 hidden behind a body, 0 outside the image (x and y are then 0).
    area: pixels of the person's whole silhouette inside the image, the hidden ones
        included; at least 1 for a real person.
    boxes: x, y, width, height of the same silhouette.
    """

    image: UInt8[Array, "s s 3"]
    keypoints: Float[Array, "p 17 3"]
    area: Float[Array, " p"]
    boxes: Float[Array, "p 4"]


class Surface(NamedTuple):
    """What is hit first at each point: depth (`FAR`: nothing) and capsule, counted through."""

    depth: Float[Array, "*s"]
    capsule: Int[Array, "*s"]


class Outfits(NamedTuple):
    """Colour, stripe colour and number of stripes of every capsule of every person."""

    ink: Float[Array, "n 3"]
    second: Float[Array, "n 3"]
    stripes: Float[Array, " n"]


class _Cones(NamedTuple):
    """Numbers of a round cone that do not depend on the pixel; see `_hit`."""

    start: Array
    along: Array
    radius: Array
    taper: Array
    square: Array
    slope: Array


def _cones(capsules: body.Capsules) -> _Cones:
    along = capsules.end - capsules.start
    flat = jnp.sum(along[..., :2] ** 2, axis=-1)
    # A cone that points at the camera loses its taper, so that `square` stays negative.
    limit = 0.9 * jnp.sqrt(flat)
    taper = jnp.clip(capsules.radius[..., 1] - capsules.radius[..., 0], -limit, limit)
    square = jnp.minimum(taper**2 - flat, -1e-3)
    slope = along[..., 2] / jnp.sqrt(along[..., 2] ** 2 - square)
    radius = jnp.mean(capsules.radius, axis=-1) - taper / 2
    return _Cones(capsules.start, along, radius, taper, square, slope)


def _hit(cone: _Cones, x: Array, y: Array) -> tuple[Array, Array]:
    """Depth of one round cone's front at (x, y), and the place t in [0, 1] on its axis.

    The front is the nearest of the balls along the axis, min over t of
    z(t) - sqrt(q(t)) with q(t) = r(t)^2 - |p - c(t)|^2 = A t^2 + 2 B t + C; A < 0
    makes that convex, so its stationary point clipped to [0, 1] is the minimum.
    """
    dx, dy = x - cone.start[..., 0], y - cone.start[..., 1]
    b = cone.radius * cone.taper + dx * cone.along[..., 0] + dy * cone.along[..., 1]
    c = cone.radius**2 - dx**2 - dy**2
    root = jnp.sqrt(jnp.maximum(b**2 - cone.square * c, 0))
    t = jnp.clip((cone.slope * root - b) / cone.square, 0, 1)
    q = (cone.square * t + 2 * b) * t + c
    depth = cone.start[..., 2] + t * cone.along[..., 2] - jnp.sqrt(jnp.maximum(q, 0))
    return jnp.where(q > 0, depth, FAR), t


def first_hits(
    people: People, x: Float[Array, "h w"], y: Float[Array, "h w"]
) -> tuple[Surface, Int[Array, " p"]]:
    """What the rays of one tile hit first, and how many rays meet each person.

    Only the capsules whose boxes touch the tile's are tried, so the number of turns of
    the loop differs from tile to tile.
    """
    num_people, num_capsules = people.capsules.radius.shape[:2]
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), people.capsules)
    box = capsule_box(flat)
    near = (box[:, 0] <= x.max()) & (box[:, 2] >= x.min())
    near &= (box[:, 1] <= y.max()) & (box[:, 3] >= y.min())
    near &= jnp.repeat(people.valid, num_capsules)
    cones, order = _cones(flat), jnp.argsort(~near, stable=True)

    def try_capsule(turn: Array, state: tuple) -> tuple:
        depth, capsule, last, rays = state
        index = order[turn]
        new, _ = _hit(jax.tree.map(lambda a: a[index], cones), x, y)
        met, person = new < FAR, index // num_capsules
        # A person's capsules come one after another: a ray that the last one to meet it
        # was of somebody else meets this person for the first time.
        rays = rays.at[person].add(jnp.sum(met & (last != person), dtype=jnp.int32))
        last = jnp.where(met, person, last)
        nearer = new < depth
        return jnp.where(nearer, new, depth), jnp.where(nearer, index, capsule), last, rays

    state = (
        jnp.full(x.shape, FAR),
        jnp.zeros(x.shape, jnp.int32),
        jnp.full(x.shape, -1),
        jnp.zeros(num_people, jnp.int32),
    )
    depth, capsule, _, rays = jax.lax.fori_loop(0, jnp.sum(near), try_capsule, state)
    return Surface(depth, capsule), rays


def crowd_hits(
    people: People, x: Float[Array, "h w"], y: Float[Array, "h w"]
) -> tuple[Surface, Int[Array, " p"]]:
    """`first_hits` of a whole picture, tile by tile."""
    side = TILE * SUPERSAMPLE
    down, across = x.shape[0] // side, x.shape[1] // side

    def cut(a: Array) -> Array:
        return a.reshape(down, side, across, side).swapaxes(1, 2).reshape(-1, side, side)

    def join(a: Array) -> Array:
        return a.reshape(down, across, side, side).swapaxes(1, 2).reshape(x.shape)

    tiles = cut(x), cut(y)
    at_once = devices.at_once(down * across)
    surface, rays = jax.lax.map(lambda xy: first_hits(people, *xy), tiles, batch_size=at_once)
    return jax.tree.map(join, surface), jnp.sum(rays, axis=0)


def render_scene(key: PRNGKeyArray, config: ConfigDict) -> Scene:
    """A random scene.

    Args:
        key: decides everything.
        config: `config.synthcrowd`.
    """
    people_key, look_key, back_key, film_key = jax.random.split(key, 4)
    people = sample_people(people_key, config)
    size = config.image_size
    outfit_key, light_key = jax.random.split(look_key)
    outfits = sample_outfits(outfit_key, len(people.valid))
    background = sample_background(back_key, size)
    image, area = picture(light_key, people, outfits, background)
    image = film(*jax.random.split(film_key), image)
    boxes = clip_box(people.boxes, size) * people.valid[:, None]
    boxes = jnp.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    area = jnp.where(people.valid, jnp.maximum(area, 1), 0)
    return Scene(image, annotate(people, size), area, boxes)


def annotate(people: People, size: int) -> Float[Array, "p 17 3"]:
    """x, y, v of the people's keypoints in a picture of `size` pixels; see `Scene`.

    A keypoint is hidden if the first surface there is too far in front of it to be the
    flesh and clothes that belong to it.
    """
    x, y, depth = jnp.moveaxis(people.keypoints, -1, 0)
    front = first_hits(people, x, y)[0].depth
    seen = front >= depth - body.COVER * people.scale[:, None]
    points = people.keypoints[..., :2]
    inside = jnp.all((points >= -0.5) & (points < size - 0.5), axis=-1) & people.valid[:, None]
    labels = jnp.concatenate([points, jnp.where(seen, 2.0, 1.0)[..., None]], axis=-1)
    return jnp.where(inside[..., None], labels, 0)


def picture(
    light_key: PRNGKeyArray, people: People, outfits: Outfits, background: Float[Array, "s s 3"]
) -> tuple[Float[Array, "s s 3"], Float[Array, " p"]]:
    """Paints the people over the background; also their silhouettes' areas in pixels."""
    size = len(background)
    axis = (jnp.arange(size * SUPERSAMPLE) + 0.5) / SUPERSAMPLE - 0.5
    x, y = jnp.meshgrid(axis, axis)
    surface, rays = crowd_hits(people, x, y)
    color = _shade(light_key, people, outfits, surface, x, y)
    hit = (surface.depth < FAR)[..., None]
    mean = _pool(jnp.where(hit, color, 0.0))
    cover = _pool(hit.astype(jnp.float32))
    return mean + (1 - cover) * background, rays / SUPERSAMPLE**2


def _pool(values: Float[Array, "h w c"]) -> Float[Array, "h2 w2 c"]:
    """Mean of the rays of each pixel."""
    h, w, c = values.shape
    blocks = values.reshape(h // SUPERSAMPLE, SUPERSAMPLE, w // SUPERSAMPLE, SUPERSAMPLE, c)
    return jnp.mean(blocks, axis=(1, 3))


def _shade(
    light_key: PRNGKeyArray, people: People, outfits: Outfits, surface: Surface, x: Array, y: Array
) -> Float[Array, "h w 3"]:
    """Colour of each hit: its material under one directional and an ambient light."""
    cones = jax.tree.map(
        lambda a: a.reshape(-1, *a.shape[2:])[surface.capsule], _cones(people.capsules)
    )
    ink, second, stripes = jax.tree.map(lambda a: a[surface.capsule], outfits)
    _, t = _hit(cones, x, y)
    center = cones.start + t[..., None] * cones.along
    point = jnp.stack([x, y, surface.depth], axis=-1)
    normal = (point - center) / (cones.radius + t * cones.taper)[..., None]
    ink = jnp.where((jnp.sin(2 * jnp.pi * stripes * t) > 0.2)[..., None], second, ink)
    direct_key, ambient_key = jax.random.split(light_key)
    direction = jnp.asarray([0.0, -0.6, -0.7]) + 0.5 * jax.random.normal(direct_key, (3,))
    direction /= jnp.linalg.norm(direction)
    ambient = jax.random.uniform(ambient_key, (), minval=0.4, maxval=0.7)
    lambert = jnp.maximum(normal @ direction, 0)
    # Silhouettes darken a little, so that a limb shows before a body of its colour.
    rim = 0.75 + 0.25 * jnp.clip(-normal[..., 2], 0, 1)
    return ink * (rim * (ambient + (1.1 - ambient) * lambert))[..., None]


def sample_outfits(key: PRNGKeyArray, num_people: int) -> Outfits:
    """What so many people wear."""
    colors, stripes = jax.vmap(_outfit)(jax.random.split(key, num_people))
    ink = colors[:, 0, np.asarray(body.CAPSULE_MATERIALS)]
    second = colors[:, 1, np.asarray(body.CAPSULE_MATERIALS)]
    stripes = jnp.broadcast_to(stripes[:, None], ink.shape[:2])
    return Outfits(ink.reshape(-1, 3), second.reshape(-1, 3), stripes.reshape(-1))


_SKINS = (
    (0.97, 0.82, 0.72),
    (0.9, 0.7, 0.55),
    (0.75, 0.52, 0.37),
    (0.5, 0.33, 0.22),
    (0.33, 0.2, 0.14),
)
_HAIRS = (
    (0.07, 0.05, 0.05),
    (0.25, 0.14, 0.07),
    (0.45, 0.27, 0.12),
    (0.85, 0.68, 0.35),
    (0.6, 0.6, 0.6),
)


def _outfit(key: PRNGKeyArray) -> tuple[Float[Array, "2 m 3"], Float[Array, ""]]:
    """Plain and striped colours of one person's materials, and stripes a capsule."""
    draw = jax.random.uniform(key, (21,))
    skin = jnp.asarray(_SKINS)[jnp.int32(draw[0] * len(_SKINS))]
    hair = jnp.asarray(_HAIRS)[jnp.int32(draw[1] * len(_HAIRS))]
    long_sleeves, long_legs, striped = draw[2] < 0.5, draw[3] < 0.75, draw[4] < 0.3
    shirt, trousers, shoes, second, tie = 0.04 + 0.94 * draw[6:].reshape(5, 3)
    trousers = 0.75 * trousers
    sleeve = jnp.where(long_sleeves, shirt, skin)
    shin = jnp.where(long_legs, trousers, skin)
    nose, mouth = skin * 0.88, skin * jnp.asarray([0.75, 0.4, 0.4])
    white, pupil = jnp.full(3, 0.95), jnp.asarray([0.08, 0.06, 0.05])
    table = dict(
        skin=skin,
        hair=hair,
        shirt=shirt,
        trousers=trousers,
        shoes=0.7 * shoes,
        sleeve=sleeve,
        shin=shin,
        white=white,
        pupil=pupil,
        nose=nose,
        mouth=mouth,
        tie=tie,
    )
    plain = jnp.stack([table[name] for name in body.MATERIALS])
    table["shirt"] = jnp.where(striped, second, shirt)
    table["sleeve"] = jnp.where(striped & long_sleeves, second, sleeve)
    with_stripes = jnp.stack([table[name] for name in body.MATERIALS])
    return jnp.stack([plain, with_stripes]), 3 + 4 * draw[5]


def film(
    plan_key: PRNGKeyArray, noise_key: PRNGKeyArray, image: Float[Array, "s s 3"]
) -> UInt8[Array, "s s 3"]:
    """Exposure, colour cast, contrast and sensor noise, then 8 bits."""
    exposure, *cast = jax.random.uniform(plan_key, (4,))
    image = image * (0.75 + 0.4 * exposure) * (0.9 + 0.2 * jnp.stack(cast))
    image += 0.02 * jax.random.normal(noise_key, image.shape)
    return jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8)
