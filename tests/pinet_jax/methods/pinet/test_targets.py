"""Targets against the released code's arrays and slow NumPy references."""

import functools
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs.base import get_config
from pinet_jax import skeletons
from pinet_jax.methods.pinet.targets import Targets, part_centers, person_area, render_targets
from tests.paths import GOLDEN

PARTS = ((0, 1), (2, 3, 4))
HEIGHT, WIDTH, PERSONS, KEYPOINTS = 16, 20, 6, 5


def target_config(convention: str = "released", min_area: float = 200.0) -> ConfigDict:
    config = get_config().targets
    config.convention = convention
    config.min_area = min_area
    return config


@functools.cache
def rendering(convention: str, min_area: float = 200.0, parts: tuple = PARTS):
    config = target_config(convention, min_area)
    return jax.jit(lambda k, a, m: render_targets(k, a, m, parts, config))


def render(keypoints, area, region_mask, convention="released", **options) -> Targets:
    return jax.tree.map(np.asarray, rendering(convention, **options)(keypoints, area, region_mask))


def crowd(seed: int):
    """Overlapping persons, one of them tiny, one of padding, one with a single keypoint."""
    rng = np.random.default_rng(seed)
    center = rng.uniform(0, [4 * WIDTH, 4 * HEIGHT], (PERSONS, 1, 2))
    xy = center + rng.normal(0, 20, (PERSONS, KEYPOINTS, 2))
    labelled = rng.integers(0, 3, (PERSONS, KEYPOINTS, 1))
    keypoints = np.concatenate([xy, labelled], axis=-1).astype(np.float32)
    keypoints[1] = keypoints[0] + [3, 2, 0]  # contested pixels
    keypoints[2, 1:, 2] = 0
    keypoints[2, 0, 2] = 1
    area = rng.uniform(300, 4000, PERSONS).astype(np.float32)
    area[3], area[4] = 150, 0
    return keypoints, area, rng.random((HEIGHT, WIDTH)) > 0.2


def reference_centers(keypoints, area, config):
    """Part centres as a list (person, part, x, y), in the pixels of the keypoints."""
    centers = []
    for person in range(len(keypoints)):
        if area[person] == 0 or area[person] < config.min_area:
            continue
        for part, members in enumerate(PARTS):
            points = [keypoints[person, k, :2] for k in members if keypoints[person, k, 2] > 0]
            if points:
                centers.append((person, part, *np.mean(points, axis=0)))
    return centers


def draw_point(heatmap, window, x, y, config):
    if not (0 <= x < WIDTH and 0 <= y < HEIGHT):
        return
    spread = config.sigma**2 * (2 if config.convention == "released" else 1)
    reach = 3 * config.sigma + 1
    for v in range(HEIGHT):
        for u in range(WIDTH):
            near_x = math.floor(x - reach) <= u <= math.ceil(x + reach)
            near_y = math.floor(y - reach) <= v <= math.ceil(y + reach)
            if near_x and near_y:
                value = math.exp(-((u - x) ** 2 + (v - y) ** 2) / spread)
                heatmap[v, u] = max(heatmap[v, u], value)
                window[v, u] = True


def in_neighbourhood(u, v, x, y, config) -> bool:
    if config.convention == "released":
        x, y, r = int(x), int(y), config.square_radius
        return x - r <= u < x + r and y - r <= v < y + r
    return (u - x) ** 2 + (v - y) ** 2 <= config.disc_radius2


def reference_targets(keypoints, area, region_mask, config) -> Targets:
    """One image, pixel by pixel."""
    keypoints = keypoints / [4, 4, 1]
    heatmaps = np.zeros((HEIGHT, WIDTH, KEYPOINTS + len(PARTS)))
    windows = np.zeros(heatmaps.shape, bool)
    offsets = np.zeros((HEIGHT, WIDTH, len(PARTS), KEYPOINTS, 2))
    weights = np.zeros(offsets.shape[:-1])
    owner_area = np.full((HEIGHT, WIDTH, len(PARTS)), np.inf)
    for person in range(len(keypoints)):
        for k, (x, y, v) in enumerate(keypoints[person]):
            if v > 0 and area[person] > 0:
                draw_point(heatmaps[..., k], windows[..., k], x, y, config)
    for person, part, x, y in reference_centers(keypoints, area, config):
        draw_point(heatmaps[..., KEYPOINTS + part], windows[..., KEYPOINTS + part], x, y, config)
        if not (0 <= x < WIDTH and 0 <= y < HEIGHT):
            continue
        for v in range(HEIGHT):
            for u in range(WIDTH):
                if in_neighbourhood(u, v, x, y, config) and area[person] < owner_area[v, u, part]:
                    owner_area[v, u, part] = area[person]
                    for k, (kx, ky, kv) in enumerate(keypoints[person]):
                        stored = kv > 0 and 0 <= kx < WIDTH and 0 <= ky < HEIGHT
                        power = 0.5 if config.convention == "released" else 1
                        weights[v, u, part, k] = area[person] ** -power if stored else 0
                        offsets[v, u, part, k] = (u - kx, v - ky) if stored else 0
    mask = np.where(windows, 1, config.background_weight) * region_mask[..., None]
    return Targets(
        keypoint_heatmaps=heatmaps[..., :KEYPOINTS],
        keypoint_mask=mask[..., :KEYPOINTS],
        part_heatmaps=heatmaps[..., KEYPOINTS:],
        part_mask=mask[..., KEYPOINTS:],
        offsets=offsets,
        offset_weights=weights,
    )


def assert_close(actual: Targets, expected: Targets) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5), actual, expected
    )


def test_released_arrays():
    golden = np.load(GOLDEN / "targets_coco.npz")
    keypoints = (golden["keypoints_xyv"] * [4, 4, 1]).astype(np.float32)
    area = golden["area"].astype(np.float32)
    parts = skeletons.COCO.parts("part-large")
    size = (int(golden["output_size"]),) * 2
    targets = render(
        keypoints[None], area[None], np.ones((1, *size), bool), min_area=32.0**2, parts=parts
    )
    np.testing.assert_array_equal(targets.keypoint_mask[0], golden["keypoint_mask"])
    np.testing.assert_array_equal(targets.part_mask[0], golden["part_mask"])
    for name in ("keypoint_heatmaps", "part_heatmaps"):
        np.testing.assert_allclose(getattr(targets, name)[0], golden[name], atol=3e-6)
    offsets = targets.offsets[0].reshape(golden["offsets"].shape)
    np.testing.assert_allclose(offsets, golden["offsets"], atol=1e-5)
    weights = np.repeat(targets.offset_weights[0].reshape(*size, -1), 2, axis=-1)
    np.testing.assert_allclose(weights, golden["offset_weights"], rtol=1e-6)

    centers = np.asarray(part_centers(keypoints[None], area[None], parts, target_config()))[0]
    np.testing.assert_allclose(centers[..., :2] / 4, golden["part_centers_xyv"][..., :2], atol=1e-5)
    np.testing.assert_array_equal(centers[..., 2] > 0, golden["part_centers_xyv"][..., 2] > 0)


@pytest.mark.parametrize("convention", ["released", "paper"])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_matches_slow_reference(convention, seed):
    crowds = [crowd(seed), crowd(seed + 1)]
    targets = render(*map(np.stack, zip(*crowds, strict=True)), convention=convention)
    for image, persons in enumerate(crowds):
        expected = reference_targets(*persons, target_config(convention))
        assert_close(jax.tree.map(lambda x, i=image: x[i], targets), expected)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_order_of_persons_does_not_matter(seed):
    keypoints, area, region_mask = crowd(seed)
    order = np.random.default_rng(seed).permutation(PERSONS)
    images = (np.stack([keypoints, keypoints[order]]), np.stack([area, area[order]]))
    targets = render(*images, np.stack([region_mask] * 2))
    jax.tree.map(lambda x: np.testing.assert_array_equal(x[0], x[1]), targets)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_offsets_lead_from_pixels_to_keypoints_of_the_owner(seed):
    keypoints, area, region_mask = crowd(seed)
    targets = render(*(np.stack([x, x]) for x in (keypoints, area, region_mask)))
    for _, v, u, part, k in np.argwhere(targets.offset_weights[:1] > 0):
        person = np.argmin(np.abs(area - targets.offset_weights[0, v, u, part, k] ** -2.0))
        reached = np.array([u, v]) - targets.offsets[0, v, u, part, k]
        np.testing.assert_allclose(4 * reached, keypoints[person, k, :2], atol=1e-3)


def two_images(keypoints, area):
    mask = np.ones((2, HEIGHT, WIDTH), bool)
    return np.stack([keypoints] * 2), np.stack([area] * 2), mask


def one_person(xy, area, labelled=KEYPOINTS):
    keypoints = np.zeros((PERSONS, KEYPOINTS, 3), np.float32)
    keypoints[0, :labelled] = [*xy, 2]
    areas = np.zeros(PERSONS, np.float32)
    areas[0] = area
    return two_images(keypoints, areas)


def assert_nothing(targets: Targets) -> None:
    for name in ("keypoint_heatmaps", "part_heatmaps", "offsets", "offset_weights"):
        assert not getattr(targets, name).any(), name
    np.testing.assert_allclose(targets.keypoint_mask, 0.1)
    np.testing.assert_allclose(targets.part_mask, 0.1)


@pytest.mark.parametrize("convention", ["released", "paper"])
def test_an_empty_image_has_no_targets(convention):
    images = (np.zeros((2, PERSONS, KEYPOINTS, 3)), np.zeros((2, PERSONS)))
    assert_nothing(render(*images, np.ones((2, HEIGHT, WIDTH), bool), convention))


def test_padding_is_nobody_even_without_an_area_limit():
    keypoints, area, mask = one_person((30, 30), area=0)
    assert_nothing(render(keypoints, area, mask, min_area=0.0))


@pytest.mark.parametrize("xy", [(-0.5, 30), (30, -0.5), (4 * WIDTH, 30), (30, 4 * HEIGHT)])
def test_a_person_outside_the_map_leaves_no_trace(xy):
    assert_nothing(render(*one_person(xy, area=900)))


def test_a_small_person_has_keypoints_but_no_parts():
    targets = render(*one_person((30, 30), area=199))
    assert targets.keypoint_heatmaps[0].max((0, 1)).min() > 0.9
    assert not targets.part_heatmaps.any() and not targets.offset_weights.any()
    targets = render(*one_person((30, 30), area=199), min_area=0.0)
    assert (targets.offset_weights[0] > 0).any((0, 1)).all()


def test_one_keypoint_is_its_own_part_centre():
    targets = render(*one_person((30, 30), area=900, labelled=1))
    np.testing.assert_array_equal(
        targets.part_heatmaps[0, ..., 0], targets.keypoint_heatmaps[0, ..., 0]
    )
    assert not targets.part_heatmaps[..., 1].any()
    owned = targets.offset_weights[0] > 0
    assert owned[..., 0, 0].sum() == 16 and owned.sum() == 16


def test_a_persons_area_is_the_boxs_or_the_segments():
    keypoints = np.zeros((1, KEYPOINTS, 3))
    boxes, segments = np.array([[3.0, 4.0, 10.0, 20.0]]), np.array([120.0])
    for kind, area in {"box": 200, "released": 200, "segment": 120}.items():
        assert person_area(keypoints, boxes, segments, kind) == [area]
