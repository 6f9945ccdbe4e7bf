import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from input_pipeline import augment
from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.inference import network_input

SIZE = 96
FLIP_ORDER = skeletons.COCO.flip_order

crops = st.builds(
    augment.Augmentation,
    rotation=st.floats(-30, 30),
    scale=st.floats(0.75, 1.5),
    translation=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
    flip=st.booleans(),
)
image_sizes = st.tuples(st.integers(60, 140), st.integers(60, 140))
few = settings(max_examples=25, deadline=None)


def blob(height: int, width: int, x: float, y: float) -> np.ndarray:
    """A black picture with one soft white spot."""
    rows, columns = np.mgrid[:height, :width]
    spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3.0**2))
    return np.repeat(spot.round().astype(np.uint8)[..., None], 3, axis=-1)


def one_keypoint(x: float, y: float, v: float = 2.0) -> np.ndarray:
    return np.array([[[x, y, v]]], np.float32)


@few
@given(crops, image_sizes, st.tuples(st.floats(0.2, 0.8), st.floats(0.2, 0.8)))
def test_a_keypoint_stays_on_what_it_marks(crop, size, place):
    height, width = size
    x, y = place[0] * width, place[1] * height
    matrix = augment.affine(crop, height, width, SIZE)
    order = (0,) if crop.flip else None
    moved = augment.apply_to_keypoints(one_keypoint(x, y), matrix, order)[0, 0, :2]
    warped = augment.warp_image(blob(height, width, x, y), matrix, SIZE)[..., 0].astype(float)
    reach = 9 * np.sqrt(abs(np.linalg.det(matrix[:, :2]))) + 2
    assume(np.all((moved > reach) & (moved < SIZE - 1 - reach)))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    found = np.array([(columns * warped).sum(), (rows * warped).sum()]) / warped.sum()
    np.testing.assert_allclose(found, moved, atol=0.25)


@few
@given(crops, image_sizes)
def test_a_flip_is_the_mirror_image_with_sides_swapped(crop, size):
    height, width = size
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 5)
    keypoints = np.concatenate(
        [rng.uniform(0, 60, (2, 17, 2)), rng.integers(0, 3, (2, 17, 1))], axis=-1
    ).astype(np.float32)
    plain, mirrored = (
        augment.affine(
            augment.Augmentation(crop.rotation, crop.scale, crop.translation, flip),
            height,
            width,
            SIZE,
        )
        for flip in (False, True)
    )
    image = augment.warp_image(smooth, plain, SIZE)
    flipped = augment.warp_image(smooth, mirrored, SIZE)
    error = np.abs(image[:, ::-1].astype(int) - flipped)
    assert np.mean(error > 3) < 0.02  # the picture's black rim may move by a sub-pixel

    expected = augment.apply_to_keypoints(keypoints, plain, None)[:, FLIP_ORDER]
    expected[..., 0] = np.where(expected[..., 2] > 0, SIZE - 1 - expected[..., 0], 0)
    actual = augment.apply_to_keypoints(keypoints, mirrored, FLIP_ORDER)
    np.testing.assert_allclose(actual, expected, atol=1e-3)


@few
@given(crops, image_sizes)
def test_area_is_that_of_the_moved_rectangle(crop, size):
    matrix = augment.affine(crop, *size, SIZE)
    x, y = (np.array([[10, 10], [30, 10], [30, 50], [10, 50]]) @ matrix[:, :2].T + matrix[:, 2]).T
    shoelace = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    np.testing.assert_allclose(
        augment.apply_to_area(np.array([20.0 * 40.0]), matrix), [shoelace], rtol=1e-5
    )


@few
@given(crops, image_sizes)
def test_region_mask_is_read_at_four_times_the_heatmap_pixel(crop, size):
    height, width = size
    regions = np.ones((SIZE // 4, SIZE // 4), bool)
    photo = np.zeros((SIZE // 4, SIZE // 4), bool)
    mask = np.zeros(size, np.uint8)
    mask[10 : height // 2, 15 : width // 2] = 255
    matrix = augment.affine(crop, height, width, SIZE)
    back = cv2.invertAffineTransform(matrix)
    for row in range(SIZE // 4):
        for column in range(SIZE // 4):
            x, y = np.rint(back @ (4 * column, 4 * row, 1)).astype(int)
            if 0 <= x < width and 0 <= y < height:
                photo[row, column] = True
                regions[row, column] = mask[y, x] == 0
    for mask_outside, expected in ((False, regions), (True, regions & photo)):
        actual = augment.warp_region_mask(mask, matrix, SIZE, mask_outside)
        assert np.mean(actual != expected) < 0.03  # OpenCV rounds positions to 1/1024 pixel


@few
@given(crops, image_sizes)
def test_what_lies_outside_is_where_a_mask_of_ones_leaves_zeros(crop, size):
    matrix = augment.affine(crop, *size, SIZE)
    side = (SIZE // 4, SIZE // 4)
    ones = cv2.warpAffine(np.ones(size, np.uint8), matrix / 4, side, flags=cv2.INTER_NEAREST)
    nothing = np.zeros(size, np.uint8)
    np.testing.assert_array_equal(augment.warp_region_mask(nothing, matrix, SIZE, True), ones > 0)
    assert augment.warp_region_mask(nothing, matrix, SIZE, False).all()
    everything = np.full(size, 255, np.uint8)
    assert not augment.warp_region_mask(everything, matrix, SIZE, True).any()


def test_translation_is_in_two_hundredths_of_the_crop():
    still = augment.affine(augment.Augmentation(0.0, 1.2, (0.0, 0.0), False), 100, 150, SIZE)
    moved = augment.affine(augment.Augmentation(0.0, 1.2, (40.0, -20.0), False), 100, 150, SIZE)
    np.testing.assert_allclose(moved[:, 2] - still[:, 2], [-SIZE / 5, SIZE / 10])


def test_rotation_turns_about_the_middle_of_the_crop():
    crop = augment.Augmentation(30.0, 1.0, (20.0, 10.0), False)
    matrix = augment.affine(crop, 100, 150, SIZE)
    center = np.array([75, 50]) + np.array([20, 10]) * 100 / 200
    np.testing.assert_allclose(matrix @ [*center, 1], [SIZE / 2, SIZE / 2])


@pytest.mark.parametrize(("height", "width"), [(64, 96), (61, 91), (96, 64)])
def test_the_plain_crop_of_the_whole_image_is_the_network_input(height, width):
    crop = augment.Augmentation(0.0, 1.5, (0.0, 0.0), False)
    matrix = augment.affine(crop, height, width, 192)
    transform = network_input.network_transform(height, width, 128, 1.0)
    size = network_input.network_size(height, width, 128, 1.0)
    np.testing.assert_allclose(matrix[:, :2], transform[:, :2])
    padding = (192 - np.array(size[::-1])) / 2
    np.testing.assert_allclose(matrix[:, 2] - transform[:, 2], padding)


def test_random_crops_stay_within_the_limits_and_repeat_with_the_seed():
    config = ConfigDict({"rotation": 30.0, "scale": (0.75, 1.5), "translation": 40.0, "flip": 0.5})
    rngs = [np.random.default_rng(5), np.random.default_rng(5)]
    draws, again = ([augment.sample_parameters(r, config) for _ in range(200)] for r in rngs)
    assert draws == again
    assert 25 < max(abs(d.rotation) for d in draws) <= 30
    assert 0.75 <= min(d.scale for d in draws) < 0.8
    assert 1.45 < max(d.scale for d in draws) <= 1.5
    assert 35 < max(max(map(abs, d.translation)) for d in draws) <= 40
    assert 60 < sum(d.flip for d in draws) < 140


def test_a_keypoint_outside_the_crop_keeps_its_visibility():
    matrix = augment.affine(augment.Augmentation(0.0, 0.75, (0.0, 0.0), False), 100, 100, SIZE)
    moved = augment.apply_to_keypoints(one_keypoint(1.0, 1.0), matrix, None)
    assert moved[0, 0, 0] < 0
    assert moved[0, 0, 2] == 2
    unlabelled = augment.apply_to_keypoints(one_keypoint(1.0, 1.0, 0.0), matrix, None)
    np.testing.assert_array_equal(unlabelled, 0)


def test_slots_go_to_the_largest_visible_persons():
    places = [(5, 5), (-1, 5), (9, 9), (0, 0), (SIZE, 3)]
    keypoints = np.concatenate([one_keypoint(*place) for place in places])
    area = np.array([1.0, 9.0, 3.0, 2.0, 8.0], np.float32)
    persons = {
        "keypoints": keypoints,
        "area": area,
        "corners": area[:, None, None] * np.ones((4, 2)),
    }
    padded, dropped = augment.pad_persons(persons, SIZE, 2)
    np.testing.assert_array_equal(padded["keypoints"][:, 0, 0], [9, 0])
    np.testing.assert_array_equal(padded["area"], [3, 2])
    np.testing.assert_array_equal(padded["corners"][:, 3, 1], [3, 2])
    assert dropped == 1

    padded, dropped = augment.pad_persons(persons, SIZE, 5)
    np.testing.assert_array_equal(padded["area"], [3, 2, 1, 0, 0])
    np.testing.assert_array_equal(padded["keypoints"][3:], 0)
    assert dropped == 0


def test_an_empty_image_has_empty_slots():
    nobody = {"keypoints": np.zeros((0, 17, 3), np.float32), "area": np.zeros(0, np.float32)}
    padded, dropped = augment.pad_persons(nobody, SIZE, 4)
    assert padded["keypoints"].shape == (4, 17, 3)
    assert not padded["area"].any()
    assert dropped == 0


def test_the_corners_of_a_box_turn_with_the_crop():
    corners = augment.box_corners(np.array([[10.0, 20.0, 4.0, 6.0]]))
    np.testing.assert_array_equal(corners[0], [[10, 20], [14, 20], [10, 26], [14, 26]])
    crop = augment.Augmentation(20.0, 1.1, (3.0, -4.0), True)
    matrix = augment.affine(crop, 100, 150, SIZE)
    moved = augment.apply_to_corners(corners, matrix)
    for corner, (x, y) in zip(moved[0], corners[0], strict=True):
        np.testing.assert_allclose(corner, matrix @ [x, y, 1], rtol=1e-5)


@pytest.mark.parametrize("scale", [(1.0,), (1.0, 1.2, 1.4), (1.5, 0.75), (0.0, 1.0)])
def test_limits_that_are_no_limits_are_refused(scale):
    config = ConfigDict({"scale": scale})
    with pytest.raises(UserError, match=r"config\.augmentation\.scale"):
        augment.check(config)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (61, 91), (97, 64)])
def test_a_square_network_input_is_the_plain_crop(height, width):
    """So a model trained without augmentation is tested on the very pictures it was trained on."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    crop = augment.Augmentation(0.0, 1.6, (0.0, 0.0), False)
    matrix = augment.affine(crop, height, width, 128)
    seen = network_input.prepare(image, 128, (1.0,), square=1.6)
    np.testing.assert_array_equal(seen.images[0], augment.warp_image(image, matrix, 128))
    back = np.vstack([seen.to_image, [0, 0, 1]]) @ np.vstack([matrix, [0, 0, 1]])
    np.testing.assert_allclose(back, np.eye(3), atol=1e-4)
