import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from input_pipeline import train_data
from input_pipeline.source import Source
from pinet_jax import skeletons, visualize
from pinet_jax.errors import UserError
from pinet_jax.methods import pinet
from pinet_jax.visualize import targets
from tests import tiny
from tests.input_pipeline import fake_coco

SIZE = tiny.SIZE


def batch(**shape):
    drawn = tiny.batch(**shape)
    images = len(drawn["image"])
    return drawn | {
        "image_id": np.arange(images),
        "num_dropped": np.arange(images, dtype=np.int32),
    }


@pytest.fixture(scope="module")
def rows():
    return targets.samples(batch(images=3, persons=4), tiny.config())


def one_person(xy=(40, 24), v=2):
    """A sample of one person with one keypoint, the nose, on a black picture."""
    keypoints = np.zeros((1, 1, 17, 3), np.float32)
    keypoints[0, 0, 0] = *xy, v
    example = {
        "image": np.zeros((1, SIZE, SIZE, 3), np.uint8),
        "keypoints": keypoints,
        "area": np.full((1, 1), 2000, np.float32),
        "region_mask": np.ones((1, SIZE // 4, SIZE // 4), bool),
        "image_id": np.array([7]),
        "num_dropped": np.array([0]),
    }
    return targets.samples(example, tiny.config())[0]


def panel(draw, *arguments):
    """What `draw` draws on a panel of two pixels an input pixel, RGB."""
    figure = Figure(figsize=(2, 2), dpi=SIZE)
    canvas = FigureCanvasAgg(figure)
    draw(figure.add_axes((0, 0, 1, 1)), *arguments)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    assert pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    return pixels


def middle(pixels):
    """Input pixel in the middle of what is brightest."""
    brightness = pixels.sum(-1)
    y, x = np.argwhere(brightness == brightness.max()).mean(0)
    return (x + 0.5) / 2 - 0.5, (y + 0.5) / 2 - 0.5


# ---- Samples


def test_padding_is_left_out_and_what_found_no_slot_is_told(rows):
    assert [len(row.keypoints) for row in rows] == [0, 4, 4]
    captions = [row.caption for row in rows]
    assert captions[0] == "image 0: 0 people"
    assert captions[1] == "image 1: 4 people, 1 dropped"
    assert one_person().caption == "image 7: 1 person"


def test_the_first_samples_are_those_of_a_training(tmp_path):
    fake_coco.write_fake_coco(tmp_path / "coco", num_images=4)
    config = tiny.config(
        **{
            "dataset.name": "coco",
            "dataset.data_dir": str(tmp_path / "coco"),
            "dataset.prepared_dir": str(tmp_path / "prepared"),
            "train.batch_size": 2,
        }
    )
    found = targets.first_samples(config, 4, Source)
    stream = train_data.train_batches(config, 0)
    want = [row for _ in range(2) for row in targets.samples(next(stream), config)]
    assert [row.caption for row in found] == [row.caption for row in want]
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
        np.testing.assert_array_equal(a.region_mask, b.region_mask)
        jax.tree.map(np.testing.assert_array_equal, a.targets, b.targets)
    assert config.train.batch_size == 2


def test_a_method_whose_targets_have_no_picture_is_refused(monkeypatch):
    monkeypatch.delattr(pinet, "show_targets")
    with pytest.raises(UserError, match="'pinet' have no picture"):
        targets.samples(batch(), tiny.config())


# ---- Who owns a pixel


def owners(row, area, s):
    """Smallest person whose part centre has the pixel in its square; -1 for none."""
    side = SIZE // 4
    owner = np.full((side, side), -1)
    for person in np.argsort(-area[area > 0], kind="stable"):  # the smallest last
        x, y, v = row.targets.centers[person, s] / [4, 4, 1]
        if v and 0 <= x < side and 0 <= y < side:
            column, line = int(x), int(y)
            owner[max(line - 2, 0) : line + 2, max(column - 2, 0) : column + 2] = person
    return owner


def test_owned_pixels_are_those_of_the_smallest_person_near(rows):
    areas = batch(images=3, persons=4)["area"]
    shared = 0
    for row, area in zip(rows, areas, strict=True):
        keypoints = row.keypoints / [4, 4, 1]
        for s in range(3):
            offsets, weights = row.targets.offsets[:, :, s], row.targets.offset_weights[:, :, s]
            owned = targets.owned_pixels(keypoints, offsets, weights)
            owner = owners(row, area, s)
            for person in range(len(keypoints)):
                np.testing.assert_array_equal(owned[person], owner == person)
                shared += 0 < owned[person].sum() < 16
    assert shared  # neighbourhoods meet, or the test says little


def test_nobody_owns_nothing():
    owned = targets.owned_pixels(np.zeros((0, 5, 3)), np.zeros((6, 7, 5, 2)), np.zeros((6, 7, 5)))
    assert owned.shape == (0, 6, 7)


# ---- Panels


def test_maps_lie_where_the_keypoints_are():
    sample = one_person((40, 24))
    for draw in (targets._draw_keypoint_heatmaps, targets._draw_part_heatmaps):
        assert middle(panel(draw, sample)) == pytest.approx((40, 24), abs=1)


def test_offset_lines_end_at_the_keypoints():
    sample = one_person((41, 26))
    pixels = panel(targets._draw_offsets, sample, 0, ["nose"])
    color = np.array(visualize.person_color(0))
    like = np.abs(pixels - color).max(-1) < 40
    y, x = np.argwhere(like).mean(0)
    assert (x / 2, y / 2) == pytest.approx((41, 26), abs=3)
    assert not panel(targets._draw_offsets, sample, 1, []).any()  # no shoulder is labelled


def test_regions_without_loss_are_red():
    def reddish(sample):
        pixels = panel(targets._draw_input, sample, skeletons.COCO)
        return (pixels[..., 0] > 100) & (pixels[..., 1:].max(-1) < 40)

    sample = one_person(v=0)
    assert not reddish(sample).any()
    sample.region_mask[4, 8] = False
    y, x = np.argwhere(reddish(sample)).mean(0)
    assert (x / 2, y / 2) == pytest.approx((32, 16), abs=1)


def test_the_picture_grows_with_samples_and_parts(rows):
    single = targets.picture(rows[:1], skeletons.COCO, skeletons.COCO.parts("part-large"))
    double = targets.picture(rows[:2], skeletons.COCO, skeletons.COCO.parts("part-large"))
    assert double.shape == (pytest.approx(2 * single.shape[0], abs=2), single.shape[1], 3)
    center = targets.samples(batch(images=1), tiny.config(**{"model.partition": "center"}))
    narrow = targets.picture(center, skeletons.COCO, skeletons.COCO.parts("center"))
    assert narrow.shape[0] == single.shape[0] and narrow.shape[1] * 6 == single.shape[1] * 4
