import numpy as np
import pytest
from PIL import Image

from pinet_jax.errors import UserError
from pinet_jax.media.images import find_images, image_size, read_image


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def test_rgb_pixels_come_back_as_they_were_written(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture)
    image[0, 0] = 0  # writable


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path, picture, orientation):
    # How each orientation's stored pixels are made from the upright picture.
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p),
        7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }[orientation](picture)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    assert image_size(tmp_path / "a.png") == picture.shape[:2]


def test_grey_and_palette_become_rgb(tmp_path, picture):
    grey = picture[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.stack([grey] * 3, -1))
    palette = Image.fromarray(picture).quantize(8)
    palette.save(tmp_path / "palette.gif")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.gif"), palette.convert("RGB"))


def test_transparent_pixels_are_black(tmp_path, picture):
    alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
    alpha[:, 4:] = 0
    Image.fromarray(np.concatenate([picture, alpha], -1)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image[:, :4], picture[:, :4])
    assert not image[:, 4:].any()


def test_16_bit_grey_keeps_its_range(tmp_path):
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png")[0, :, 0], [0, 100, 255])


def test_float_and_cmyk_pictures_are_read(tmp_path):
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(tmp_path / "float.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "float.tif")[0, :, 1], [0, 128, 255])
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    red, green, blue = read_image(tmp_path / "cmyk.jpg")[4, 4]
    assert red > 240 and green < 15 and blue < 15


def test_unreadable_files_are_named_with_the_reason(tmp_path, picture):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    Image.fromarray(np.tile(picture, (40, 40, 1))).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    reasons = {
        "empty.jpg": "the file is empty",
        "text.jpg": "not a picture",
        "cut.jpg": "truncated",
        "absent.jpg": "no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=f"{name}.*{reason}"):
            read_image(tmp_path / name)
        if name != "cut.jpg":  # its header is whole
            with pytest.raises(UserError, match=f"{name}.*{reason}"):
                image_size(tmp_path / name)


def test_files_folders_and_globs_are_found_once_and_sorted(tmp_path, picture):
    for name in ("b.png", "a.JPG", "sub/c.webp", "notes.txt", "odd.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [p.relative_to(tmp_path).as_posix() for p in find_images([tmp_path])]
    assert names == ["a.JPG", "b.png", "sub/c.webp"]
    names = [p.name for p in find_images([tmp_path], suffixes=(".txt", ".png"))]
    assert names == ["b.png", "notes.txt"]
    found = find_images([tmp_path / "*.png", tmp_path / "b.png", str(tmp_path / "odd.bin")])
    assert [p.name for p in found] == ["b.png", "odd.bin"]


@pytest.mark.parametrize("name", ["absent.png", "*.png", ""])
def test_nothing_found_is_an_error(tmp_path, name):
    with pytest.raises(UserError, match="No image at"):
        find_images([tmp_path / name])


def test_no_paths_is_an_error():
    with pytest.raises(UserError, match="No images given"):
        find_images([])
