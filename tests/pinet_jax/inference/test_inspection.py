import jax
import numpy as np
import pytest

from pinet_jax import skeletons, visualize
from pinet_jax.inference.fusion import oks_matrix
from pinet_jax.inference.inspection import Inspector
from pinet_jax.inference.predict import join_people
from pinet_jax.inference.predictor import Predictor
from pinet_jax.methods.pinet import network
from tests import devices, tiny

pytestmark = pytest.mark.slow

SCALES = (1.0, 0.5)
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 100, 3), np.uint8)


@pytest.fixture(scope="module")
def config():
    # A low threshold joins even the poses of random weights.
    return tiny.config(**{"eval.scales": SCALES, "eval.oks_threshold": 0.02})


@pytest.fixture(scope="module")
def variables(config):
    return tiny.random_variables(network.build(config), seed=2)


@pytest.fixture(scope="module")
def inspection(config, variables):
    return Inspector(config, variables)(IMAGE)


def test_the_people_are_those_of_predictor(config, variables, inspection):
    """Also: an image alone gives what it gives in a batch, here of two."""
    with devices.use(1):
        found, _ = Predictor(config, variables)([IMAGE, IMAGE[::-1].copy()])
    assert len(found.scores) == len(inspection.people.scores) > 0
    np.testing.assert_allclose(inspection.people.keypoints, found.keypoints, atol=1e-3)
    np.testing.assert_allclose(inspection.people.scores, found.scores, atol=1e-5)


def slow_groups(poses, keypoint_scores, threshold, sigmas) -> list[list[int]]:
    """Greedy suppression as the paper's Algorithm 1 writes it down."""
    oks = np.asarray(oks_matrix(poses, sigmas))
    left = list(np.argsort(-keypoint_scores.mean(-1), kind="stable"))
    groups = []
    while left:
        leader = left[0]
        groups.append([i for i in left if i == leader or oks[leader, i] > threshold])
        left = [i for i in left if i not in groups[-1]]
    return groups


def test_each_person_is_fused_from_its_candidates(config, inspection):
    found, people = inspection.candidates, inspection.people
    sigmas = skeletons.of(config).sigmas
    groups = slow_groups(found.poses, found.keypoint_scores, config.eval.oks_threshold, sigmas)
    assert len(groups) == len(people.scores)
    assert max(map(len, groups)) > 1
    for group in groups:
        (person,) = set(inspection.person[group])
        assert np.count_nonzero(inspection.person == person) == len(group)
        surest = found.keypoint_scores[group].argmax(0)
        fused = found.poses[group][surest, np.arange(17)]
        np.testing.assert_allclose(fused, people.keypoints[person], atol=1e-4)


def test_without_fusion_the_leaders_are_the_people(config, inspection):
    config = config.copy_and_resolve_references()
    config.eval.pose_fusion = False
    found = jax.tree.map(lambda x: np.stack([x, x]), inspection.candidates)
    valid = found.valid.copy()
    valid[1, 0] = False
    people, person = jax.jit(lambda f: join_people(f, {}, config))(found.replace(valid=valid))
    assert person.shape == valid.shape
    assert (np.asarray(person)[valid] >= 0).all() and person[1, 0] == -1
    for row in range(2):
        for index in range(int(people.valid[row].sum())):
            members = np.flatnonzero(person[row] == index)
            leader = members[found.keypoint_scores[row, members].mean(-1).argmax()]
            np.testing.assert_allclose(
                people.keypoints[row, index], found.poses[row, leader], atol=1e-5
            )


def test_candidates_are_refined_and_tell_their_part(inspection):
    found = inspection.candidates
    assert found.valid.all() and set(found.part) == {0, 1, 2}
    assert (found.poses != found.proposals).any()


def test_part_centres_are_where_the_part_maps_have_their_scores(inspection):
    """Holds the maps, their frame and the candidates together, at scale 1."""
    found, heatmaps = inspection.candidates, inspection.part_heatmaps[0]
    to_image = inspection.map_to_image[0]
    pixels = (found.centers - to_image[:, 2]) / to_image[0, 0]
    whole = np.round(pixels).astype(int)
    of_scale_1 = np.flatnonzero(
        (np.abs(pixels - whole) < 1e-3).all(-1)
        & (whole >= 0).all(-1)
        & (whole < heatmaps.shape[1::-1]).all(-1)
    )
    read = heatmaps[whole[of_scale_1, 1], whole[of_scale_1, 0], found.part[of_scale_1]]
    same = np.isclose(read, found.part_scores[of_scale_1], atol=1e-6)
    assert same.sum() >= 10  # those of scale 0.5 have other scores


def test_every_scale_has_its_maps(inspection):
    sizes = [heatmaps.shape for heatmaps in inspection.keypoint_heatmaps]
    assert sizes == [(16, 32, 17), (8, 16, 17)]
    assert [maps.shape for maps in inspection.part_heatmaps] == [(16, 32, 3), (8, 16, 3)]
    # A heatmap pixel of scale 0.5 is as large as two of scale 1.
    full, half = inspection.map_to_image
    np.testing.assert_allclose(half[:, :2], 2 * full[:, :2])


# ---- Drawn


def test_the_parts_page_shows_proposals_refined_and_people(config, inspection):
    skeleton = skeletons.of(config)
    parts = skeleton.parts("part-large")
    page = visualize.parts_page(IMAGE, inspection, parts, skeleton, -1.0, -1.0)
    nobody = visualize.parts_page(IMAGE, inspection, parts, skeleton, 1e9)
    assert page.shape == nobody.shape  # frames of a video must be of one size
    panel_width = (page.shape[1] - 5 * 10) / 4
    changed = (page != nobody).any(-1)
    half = page.shape[0] // 2
    for row, column in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)]:
        left = round(10 + column * (panel_width + 10))
        panel = changed[row * half : (row + 1) * half, left : left + round(panel_width)]
        assert panel.mean() > 0.01, (row, column)
    image_panel = changed[:half, round(10 + 3 * (panel_width + 10)) :]
    assert not image_panel.any()


def test_the_heatmaps_page_glows_where_the_score_is(config, inspection):
    skeleton = skeletons.of(config)
    parts = skeleton.parts("part-large")
    dark = [np.zeros_like(maps) for maps in inspection.part_heatmaps]
    lit = [maps.copy() for maps in dark]
    lit[0][8, 15, 0], lit[1][4, 7, 0] = 2, 2  # one place of the image, at both scales
    pages = [
        visualize.heatmaps_page(
            IMAGE,
            type(inspection)(**{**vars(inspection), "part_heatmaps": tuple(maps)}),
            parts,
            skeleton,
        ).astype(int)
        for maps in (dark, lit)
    ]
    brighter = (pages[1] - pages[0]).sum(-1)
    y, x = np.unravel_index(brighter.argmax(), brighter.shape)
    factor = 400 / 100
    wanted = (inspection.map_to_image[0] @ (15, 8, 1) + 0.5) * factor - 0.5
    offset = np.array([10, 10 + round(1.6 * 18)])  # page border and title
    assert np.abs(np.array([x, y]) - offset - wanted).max() < 4 * factor
    assert brighter[:, 10 + 400 + 10 :].max() == 0  # the other maps are unchanged
