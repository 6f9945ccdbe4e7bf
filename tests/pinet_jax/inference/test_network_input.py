import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinet_jax.errors import UserError
from pinet_jax.inference import network_input
from pinet_jax.inference.network_input import network_size, network_transform, prepare
from tests.paths import GOLDEN

sides = st.integers(1, 2000)
scales = st.sampled_from([0.5, 1.0, 1.5, 2.0])


def released_size(height, width, input_size, scale):
    def ceil64(v):
        return (v + 63) // 64 * 64

    if width < height:
        return int(ceil64(input_size / width * height) * scale), int(input_size * scale)
    return int(input_size * scale), int(ceil64(input_size / height * width) * scale)


@given(sides, sides, scales)
@settings(deadline=None, max_examples=50)
def test_network_size_is_the_released_one(height, width, scale):
    assert network_size(height, width, 512, scale) == released_size(height, width, 512, scale)


@given(sides, sides, scales)
@settings(deadline=None, max_examples=50)
def test_network_transform_takes_the_center_to_the_center(height, width, scale):
    transform = network_transform(height, width, 512, scale)
    center = [int(width / 2 + 0.5), int(height / 2 + 0.5), 1]
    out_height, out_width = network_size(height, width, 512, scale)
    np.testing.assert_allclose(transform @ center, [out_width / 2, out_height / 2])
    np.testing.assert_allclose(transform[:, :2], np.eye(2) * 512 * scale / min(height, width))


@given(st.integers(1, 200), st.integers(1, 200), st.floats(-50, 250), st.floats(-50, 250))
@settings(deadline=None, max_examples=25)
def test_to_image_undoes_network_transform(height, width, x, y):
    prepared = prepare(np.zeros((height, width, 3), np.uint8), 64, (2.0, 1.0))
    there = network_transform(height, width, 64, 1.0) @ [x, y, 1]
    np.testing.assert_allclose(prepared.to_image @ [*there, 1], [x, y], atol=1e-3)


def test_golden_warp():
    golden = np.load(GOLDEN / "evaluate_image_coco.npz")
    prepared = prepare(golden["image_u8"], 128, (1.0,))
    want = golden["network_input_u8_scale_1.0"].astype(int)
    difference = np.abs(prepared.images[0] - want)
    # OpenCV 4 rounds differently from 5, which made the golden warp.
    assert difference.max() <= 2
    assert (difference > 0).mean() < (0.1 if cv2.__version__.startswith("4") else 1e-6)


def test_prepare_gives_one_image_a_scale_in_their_order():
    image = np.full((100, 150, 3), 7, np.uint8)
    prepared = prepare(image, 64, (2.0, 0.5))
    assert [i.shape for i in prepared.images] == [(128, 256, 3), (32, 64, 3)]
    assert all(i.dtype == np.uint8 for i in prepared.images)
    assert prepared.to_image.dtype == np.float32


def test_what_the_image_does_not_cover_is_black():
    image = np.full((64, 80, 3), 255, np.uint8)  # at 64: 128 wide, the image in columns 24..103
    (warped,) = prepare(image, 64, (1.0,)).images
    assert not warped[:, :23].any() and not warped[:, 105:].any()
    assert (warped[:, 24:104] == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (300, 12000), (12000, 300)])
def test_tiny_and_elongated_images(size):
    (warped,) = prepare(np.full((*size, 3), 200, np.uint8), 64, (1.0,)).images
    assert warped.shape == (*network_size(*size, 64, 1.0), 3)
    assert warped.max() >= 40  # a 1x1 image shows one corner of its pixel


@pytest.mark.parametrize("zoom_size", [32, 64, 128])
@pytest.mark.parametrize("shape", [(64, 400, 3), (400, 64, 3)])
def test_warp_in_tiles_is_the_warp(monkeypatch, zoom_size, shape):
    """A long image goes through OpenCV in pieces; no seam may be seen."""
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    whole = prepare(image, zoom_size, (1.0,)).images[0]
    transform = network_transform(*shape[:2], zoom_size, 1.0)
    size = network_size(*shape[:2], zoom_size, 1.0)
    np.testing.assert_array_equal(whole, cv2.warpAffine(image, transform, size[::-1]))
    monkeypatch.setattr(network_input, "WARP_LIMIT", 90)
    np.testing.assert_array_equal(prepare(image, zoom_size, (1.0,)).images[0], whole)


@pytest.mark.parametrize(("input_size", "scale"), [(512, 0.75), (100, 1.0), (64, 0.01)])
def test_size_the_network_cannot_take(input_size, scale):
    with pytest.raises(UserError, match=r"config\.eval\.scales.*multiple of 32"):
        prepare(np.zeros((100, 103, 3), np.uint8), input_size, (scale,))
