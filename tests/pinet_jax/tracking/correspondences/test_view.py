"""What the network sees of frames: a square of its own, or the map of the model's backbone."""

import numpy as np
import pytest

from pinet_jax import methods as people_methods
from pinet_jax.config import with_fields
from pinet_jax.errors import UserError
from pinet_jax.inference.backbone_maps import BackboneMaps
from pinet_jax.inference.network_input import eval_size
from pinet_jax.inference.predictor import Predictor
from pinet_jax.tracking import correspondences, methods
from pinet_jax.tracking.correspondences import network, view, weights
from pinet_jax.tracking.frames import Detections
from pinet_jax.tracking.tracker import follow
from tests import tiny

IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    config = tiny.config()
    return Predictor(config, tiny.random_variables(people_methods.of(config).build(config)))


def shared(model, tmp_path, backbone):
    """The config of weights that were trained on the map of such a backbone."""
    path = tmp_path / "shared.npz"
    changes = {"tracking.features": "shared", "tracking.weights": str(path)}
    config = with_fields(model.config, changes)
    variables = tiny.random_variables(network.build(config))
    variables["params"]["scale"] = np.float32(200)  # of a network that is sure
    weights.save(path, variables, config, backbone)
    return config


def test_a_square_shows_all_of_a_frame_about_its_middle():
    to_view = view.SquareView(512).matrix(100, 200)
    corners = view.apply(to_view, np.array([[0, 0], [200, 100.0]]))
    np.testing.assert_allclose(corners, [[0, 128], [512, 384]])
    points = np.random.default_rng(0).uniform(0, 200, (5, 2))
    back = view.apply(view.inverse(to_view), view.apply(to_view, points))
    np.testing.assert_allclose(back, points, atol=1e-9)
    shown = view.SquareView(64).see(np.full((100, 200, 3), 255, np.uint8))
    assert shown[32].min() == 255 and not shown[:15].any() and not shown[49:].any()


def test_a_shared_view_is_the_backbones_map_of_what_the_model_sees(model):
    """A cell of the map is where the frame's pixel is: a bright spot shows at its place."""
    maps = BackboneMaps(model.config, model.variables)
    seen_by = view.ModelView(maps, model.config.eval)
    place = np.array([90.0, 30.0])
    spot = IMAGE.copy()
    spot[26:35, 86:95] = 255 - spot[26:35, 86:95]
    change = np.abs(np.asarray(seen_by.see(spot)) - np.asarray(seen_by.see(IMAGE))).sum(-1)
    cell = view.apply(seen_by.matrix(*IMAGE.shape[:2]), place) / 4
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert np.abs(np.array([column, row]) - cell).max() < 4
    assert change.shape == tuple(side // 4 for side in eval_size(*IMAGE.shape[:2], model.config))


def test_shared_features_follow_people_through_a_video(model, tmp_path):
    """Frames that do not change keep everybody in place, with the model's own view."""
    config = shared(model, tmp_path, BackboneMaps(model.config, model.variables).fingerprint)
    linker = methods.build(with_fields(config, {"tracking.refinement": False}), model)
    joints = np.random.default_rng(1).uniform(20, 80, (2, 17, 2))
    people = Detections(joints, np.full((2, 17), 0.9))
    tracked = [found for _, found in follow([(IMAGE, people)] * 4, linker, config)]
    assert [found.ids.tolist() for found in tracked] == [[1, 2]] * 4


def test_weights_of_another_models_features_are_refused(model, tmp_path):
    config = shared(model, tmp_path, "of another")
    with pytest.raises(UserError, match="of another model"):
        correspondences.build(config, model)


def test_shared_features_need_a_model(model, tmp_path):
    with pytest.raises(UserError, match="no model"):
        correspondences.build(shared(model, tmp_path, ""), None)


def test_a_fingerprint_is_of_the_weights(model):
    other = tiny.random_variables(people_methods.of(model.config).build(model.config), seed=7)
    prints = {
        BackboneMaps(model.config, v).fingerprint for v in (model.variables, other, model.variables)
    }
    assert len(prints) == 2
