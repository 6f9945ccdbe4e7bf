import colorsys

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image

from pinet_jax import visualize
from pinet_jax.errors import UserError
from pinet_jax.skeletons import COCO, CROWDPOSE
from pinet_jax.visualize import (
    Example,
    draw_people,
    draw_truth,
    figures,
    people,
    person_color,
    plots,
)

GREY = 128


def grey(height=720, width=960):
    return np.full((height, width, 3), GREY, np.uint8)


def standing_person(x: float, y: float, height: float) -> np.ndarray:
    """COCO keypoints [17, 2] of someone facing the camera."""
    right_to_left = {"right": -1, "left": 1}
    rows = {
        **{"nose": 0.06, "eye": 0.04, "ear": 0.05, "shoulder": 0.2, "elbow": 0.35},
        **{"wrist": 0.5, "hip": 0.5, "knee": 0.75, "ankle": 1.0},
    }
    columns = {
        **{"eye": 0.02, "ear": 0.04, "shoulder": 0.12, "elbow": 0.17, "wrist": 0.2},
        **{"hip": 0.08, "knee": 0.09, "ankle": 0.1},
    }
    points = []
    for name in COCO.keypoints:
        side, _, joint = name.rpartition("_")
        offset = right_to_left[side] * columns[joint] if side else 0
        points.append((x + height * offset, y + height * rows[joint]))
    return np.array(points)


def hue_near(image: np.ndarray, point, radius: int = 3) -> np.ndarray:
    """Hues (0 to 1) of the colourful pixels around a point."""
    x, y = np.round(point).astype(int)
    patch = image[y - radius : y + radius + 1, x - radius : x + radius + 1].reshape(-1, 3)
    hsv = np.array([colorsys.rgb_to_hsv(*(p / 255)) for p in patch])
    return hsv[hsv[:, 1] > 0.3, 0]


def test_each_persons_joints_have_its_colour():
    people = np.stack([standing_person(250, 100, 500), standing_person(700, 100, 500)])
    drawing = draw_people(grey(), people, None, np.array([0.9, 0.4]), COCO)
    for index, points in enumerate(people):
        wanted = colorsys.rgb_to_hsv(*(c / 255 for c in person_color(index)))[0]
        for k in (5, 6, 11, 12, 15, 16):
            hues = hue_near(drawing, points[k])
            assert len(hues) and np.abs(hues - wanted).max() < 0.05


def test_left_limbs_are_lighter_than_right_ones():
    points = standing_person(480, 100, 500)
    drawing = draw_people(grey(), points[None], None, None, COCO)
    shin = [np.round((points[a] + points[b]) / 2).astype(int) for a, b in ((15, 13), (16, 14))]
    left, right = (drawing[y, x].astype(int).sum() for x, y in shin)
    assert left > right + 150


def test_low_keypoints_and_limbs_to_them_are_left_out():
    points = standing_person(480, 100, 500)
    scores = np.ones((1, 17))
    scores[0, 15] = 0.0
    drawing = draw_people(grey(), points[None], scores, None, COCO)
    x, y = np.round(points[15]).astype(int)
    assert (drawing[y - 40 : y + 40, x - 40 : x + 40] == GREY).all()
    x, y = np.round(points[16]).astype(int)
    assert (drawing[y, x] != GREY).any()


def test_hidden_truth_is_hollow_and_unlabelled_truth_absent():
    truth = np.concatenate([standing_person(480, 100, 500), np.full((17, 1), 2.0)], -1)
    truth[9, 2], truth[10, 2] = 1, 0
    drawing = draw_truth(grey(), truth[None], COCO)
    x, y = np.round(truth[9, :2]).astype(int)
    assert (drawing[y, x] > 220).all()  # white inside
    assert len(hue_near(drawing, truth[9, :2], radius=8))  # a coloured ring around
    x, y = np.round(truth[10, :2]).astype(int)
    assert (drawing[y - 15 : y + 15, x - 15 : x + 15] == GREY).all()


def test_small_images_are_enlarged_and_their_people_with_them():
    points = standing_person(48, 10, 50)
    image = np.full((72, 96, 3), GREY, np.uint8)
    drawing = draw_people(image, points[None], None, None, COCO)
    assert drawing.shape == (540, 720, 3)
    wanted = colorsys.rgb_to_hsv(*(c / 255 for c in person_color(0)))[0]
    hues = hue_near(drawing, (points[16] + 0.5) * 7.5 - 0.5, radius=1)
    assert len(hues) == 9 and np.abs(hues - wanted).max() < 0.05


def test_large_images_keep_their_size_and_the_input_is_untouched():
    image = grey(800, 1200)
    drawing = draw_people(image, standing_person(600, 100, 600)[None], None, np.ones(1), COCO)
    assert drawing.shape == image.shape and drawing.dtype == np.uint8
    assert (image == GREY).all() and (drawing != GREY).any()


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda s: s.name)
def test_nobody_and_people_out_of_the_image_are_no_error(skeleton):
    k = skeleton.num_keypoints
    nobody = draw_people(grey(), np.zeros((0, k, 2)), np.zeros((0, k)), np.zeros(0), skeleton)
    assert (nobody == GREY).all()
    far = np.random.default_rng(0).uniform(-1e7, 1e7, (4, k, 2))
    far[0, 0] = np.nan
    assert draw_people(grey(), far, None, np.ones(4), skeleton).shape == (720, 960, 3)
    unseen = draw_people(grey(), far, np.zeros((4, k)), np.ones(4), skeleton)
    assert (unseen == GREY).all()


def test_the_best_person_is_on_top():
    points = standing_person(480, 100, 500)
    twice = np.stack([points, points])
    first = draw_people(grey(), twice, None, np.array([0.9, 0.1]), COCO)
    second = draw_people(grey(), twice, None, np.array([0.1, 0.9]), COCO)
    for index, drawing in enumerate((first, second)):
        wanted = colorsys.rgb_to_hsv(*(c / 255 for c in person_color(index)))[0]
        assert np.abs(np.median(hue_near(drawing, points[6])) - wanted) < 0.05


def test_colours_of_the_first_people_differ():
    colors = np.array([person_color(i) for i in range(20)])
    apart = np.abs(colors[:, None] - colors).max(-1) + 255 * np.eye(20)
    assert apart.min() > 20


@pytest.mark.parametrize("extent", [0.15, 0.8])
def test_lines_are_as_wide_on_small_images_as_on_large_ones(extent):
    """Looked at in one size, 200 and 4000 pixel images show about the same."""
    covered = []
    for side in (200, 720, 1920, 4000):
        image = grey(round(0.75 * side), side)
        points = standing_person(side / 2, 0.02 * side, extent * 0.7 * side)
        drawing = draw_people(image, points[None], None, None, COCO)
        assert max(drawing.shape) == max(720, side)
        seen = cv2.resize(drawing, (720, 540), interpolation=cv2.INTER_AREA)
        covered.append((np.abs(seen.astype(int) - GREY).max(-1) > 40).mean())
    assert max(covered) < 1.4 * min(covered)


def test_a_panorama_is_not_drawn_on_with_a_broom():
    """Its lines follow its height: its length says nothing about how large people are."""
    points = standing_person(200, 30, 240)
    alone, panorama = (
        draw_people(grey(300, width), points[None], None, np.ones(1), COCO, min_long_side=0)
        for width in (600, 12000)
    )
    np.testing.assert_array_equal(panorama[:, :600], alone)


def test_poses_may_share_a_colour_and_have_a_cross():
    points = np.stack([standing_person(250, 100, 500), standing_person(700, 100, 500)])
    shown = np.zeros((2, 17), bool)
    centers = np.array([[100.0, 50.0], [800.0, 60.0]])
    person = np.array([3, 3])
    poses = people.Poses(points, shown, shown, np.arange(2), ["", ""], person, centers)
    drawing = people.draw_poses(grey(), poses, COCO)
    wanted = colorsys.rgb_to_hsv(*(c / 255 for c in person_color(3)))[0]
    for center in centers:
        assert np.abs(np.median(hue_near(drawing, center, 1)) - wanted) < 0.05
    changed = (drawing != GREY).any(-1)
    assert not changed[100:].any() and changed.sum() < 1000


def test_the_adjacency_has_a_panel_a_step_on_one_scale(tmp_path):
    start = np.eye(17, dtype=np.float32)
    later = -2 * np.eye(17, dtype=np.float32)
    sizes = []
    for count in (1, 2, 3):
        visualize.adjacency_plot(
            [start, later, start][:count],
            ["start", "later", "end"][:count],
            COCO,
            tmp_path / "a.png",
        )
        sizes.append(Image.open(tmp_path / "a.png").size)
    assert sizes[2][0] - sizes[1][0] == pytest.approx(sizes[1][0] - sizes[0][0], abs=2)
    page = np.array(Image.open(tmp_path / "a.png")).reshape(-1, 3).astype(int)
    # The ends of the scale are -2 and 2: on one's own 1 would be as dark as -2.
    squares = {"-2": (5, 48, 97), "1": matplotlib.colormaps["RdBu_r"](0.75, bytes=True)[:3]}
    found = {name: (np.abs(page - c).max(-1) < 3).sum() for name, c in squares.items()}
    assert found["-2"] > 17 * 50 and found["1"] > 2 * 17 * 50


def example(width: int, caption: str) -> Example:
    points = standing_person(width / 2, 20, 150)[None]
    truth = np.concatenate([points, np.full((1, 17, 1), 2.0)], -1)
    image = np.full((200, width, 3), GREY, np.uint8)
    return Example(image, points, np.ones((1, 17)), np.ones(1), truth, caption)


def test_the_grid_holds_a_pair_of_panels_an_example(tmp_path):
    examples = [example(150, "first"), example(300, "second"), example(150, "third")]
    path = tmp_path / "grid.png"
    visualize.prediction_grid(examples, COCO, path, panel_height=100)
    page = np.array(Image.open(path))
    panels = (page == GREY).all(-1)
    assert page.dtype == np.uint8
    # Two rows of panels, the first 2 * 75 and 2 * 150 pixels wide; text has few greys.
    assert (panels.sum(1) > 40).sum() == 2 * 100
    assert (panels.sum(0) > 20).sum() == pytest.approx(2 * (75 + 150), abs=20)


def test_loss_curves_have_a_panel_a_term(tmp_path):
    records = [
        {"step": s, "loss": 1 / s, "offset_loss": 0.0, "num_samples": 3, "learning_rate": 1e-3}
        for s in range(1, 40)
    ]
    records[3]["loss"] = None
    sizes = []
    for names in (("loss",), ("loss", "offset_loss"), ("loss", "offset_loss", "learning_rate")):
        kept = [{"step": r["step"]} | {name: r[name] for name in names} for r in records]
        visualize.loss_curves(kept, tmp_path / "curves.png")
        sizes.append(Image.open(tmp_path / "curves.png").size)
    assert sizes[1][0] == 2 * sizes[0][0] and sizes[2][0] == 3 * sizes[0][0]
    page = np.array(Image.open(tmp_path / "curves.png"))
    assert (page.reshape(-1, 3) == (0x1F, 0x5F, 0x99)).all(-1).sum() > 200  # lines


@pytest.mark.parametrize("window", [0, 2, 50])
def test_smoothing_is_a_centred_mean(window):
    values = np.random.default_rng(0).normal(size=21)
    for i, value in enumerate(plots._smoothed(values, window)):
        reach = min(window, i, 20 - i)
        assert value == pytest.approx(values[i - reach : i + reach + 1].mean())


def test_metrics_without_losses_are_an_error(tmp_path):
    with pytest.raises(UserError, match="hold no losses"):
        visualize.loss_curves([{"step": 1}], tmp_path / "curves.png")


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Cannot write '.*absent.*a.png'"):
        visualize.save_png(grey(), tmp_path / "absent" / "a.png")


def test_a_figure_is_rendered_in_the_colours_and_pixels_it_asks_for():
    figure = figures.figure(2, 1, dpi=50)
    figure.patch.set_facecolor((1.0, 0.4, 0.0))
    picture = figures.rendered(figure)
    assert picture.dtype == np.uint8 and picture.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(picture, np.tile(np.uint8([255, 102, 0]), (50, 100, 1)))
