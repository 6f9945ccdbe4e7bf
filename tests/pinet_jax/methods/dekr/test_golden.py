"""What the released DEKR computes, on W32 with stand-in weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import normalise
from pinet_jax.config import load_config
from pinet_jax.inference import pose_scoring
from pinet_jax.inference.network_input import prepare
from pinet_jax.inference.predict import join_people
from pinet_jax.methods import dekr
from pinet_jax.methods.dekr import candidates, network, targets
from pinet_jax.methods.pinet.candidates import one_scale
from pinet_jax.methods.pinet.targets import render
from pinet_jax.methods.variables import shapes
from pinet_jax.weights import convert
from tests import compiled
from tests.paths import GOLDEN
from tests.pinet_jax.methods.dekr import golden
from tests.pinet_jax.methods.dekr.golden import close

pytestmark = pytest.mark.slow


# ---- Network


def test_maps_and_the_flip_test():
    config, model, variables = golden.released(eval__max_peaks=30)
    want = golden.arrays("forward")

    def run(variables, image):
        image = normalise(image)
        return model.apply(variables, image), one_scale(
            model, variables, image, config, candidates.mirrored_view
        )

    maps, (heatmaps, centers, found) = compiled.run_once(run, variables, want["image_u8"][None])
    close(maps.features[..., ::16], want["features_every_16th_channel"], 3e-6)
    close(joined(maps.keypoint_heatmaps, maps.part_heatmaps), want["heatmaps"], 3e-6)
    close(maps.offsets.reshape(want["offsets"].shape), want["offsets"], 3e-6)
    close(joined(heatmaps, centers), want["flip_heatmaps"], 3e-6)
    valid = found.valid[0]
    peaks = want["flip_peaks_xy"]
    np.testing.assert_array_equal(found.centers[0, valid], peaks)
    np.testing.assert_allclose(found.part_scores[0, valid], want["flip_peak_scores"], atol=1e-5)
    posemap = want["flip_posemap"][0, peaks[:, 1], peaks[:, 0]].reshape(len(peaks), 17, 2)
    np.testing.assert_allclose(found.poses[0, valid], posemap, atol=1e-4)


def joined(keypoint_maps, center_map):
    return np.concatenate([keypoint_maps, center_map], -1)


@pytest.mark.parametrize(
    ("name", "fields", "count"),
    [
        ("dekr_coco", {}, 29_561_182),
        ("dekr_crowdpose", {}, 29_522_071),
        ("dekr_coco", {"model.width": 48}, 65_684_590),
    ],
)
def test_parameter_counts(name, fields, count):
    params = shapes(network.build(load_config(name, fields)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_crowdpose_has_as_many_entries_as_released():
    config = load_config("dekr_crowdpose")
    zeros = jax.tree.map(lambda x: np.zeros(x.shape), shapes(network.build(config)))
    state_dict = convert.to_torch(zeros)
    assert len(state_dict) == 2192
    assert state_dict["offset_final_layer.13.weight"].shape == (2, 15, 1, 1)
    assert convert.from_torch(state_dict, config).keys() == zeros.keys()


def test_every_released_entry_comes_back_bit_for_bit():
    manifest = json.loads((GOLDEN / "dekr_manifest_coco.json").read_text())
    assert len(manifest) == 2264
    given, back = golden.state_dict(), convert.to_torch(golden.released()[2])
    assert set(back) == {name for name, _ in manifest}
    for name, shape in manifest:
        assert back[name].shape == tuple(shape) and back[name].dtype == given[name].dtype
        np.testing.assert_array_equal(back[name], given[name], err_msg=name)


# ---- Inference


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_people_of_an_image(kind):
    want = golden.arrays(f"evaluate_{kind}")
    scales = tuple(map(float, want["scales"]))
    fields = {"eval__scales": scales, "eval__input_size": int(want["input_size"])}
    config, model, variables = golden.released(**fields)
    scored = config.copy_and_resolve_references()
    scored.eval.scoring_net = True
    seen = prepare(want["image_u8"], config.eval.input_size, scales)
    images = [want[f"network_input_u8_scale_{scale:g}"][None] for scale in scales]
    for ours, theirs in zip(seen.images, images, strict=True):
        np.testing.assert_array_equal(ours[None], theirs)

    def run(variables, images, to_image):
        found = dekr.find_candidates(model, variables, images, to_image, config)
        joined, scored_ones = (join_people(found, variables, c)[0] for c in (config, scored))
        return found, joined, scored_ones

    found, people, with_net = compiled.run_once(run, variables, tuple(images), seen.to_image[None])
    valid = found.valid[0]
    inverse = np.linalg.inv(np.vstack([seen.to_image, [0, 0, 1]]))
    poses = found.poses[0, valid] @ inverse[:2, :2].T + inverse[:2, 2]
    np.testing.assert_allclose(poses, want["candidates_xy_center_score"][..., :2], atol=1e-3)
    assert_people(people, want["people_xy_score"], want["scores"])
    scores = want["people_scores"]
    assert_people(with_net, want["people_xy_score"], scores)


def assert_people(people, xy_score, scores):
    order, valid = np.argsort(-scores, kind="stable"), people.valid[0]
    assert valid.sum() == len(scores)
    np.testing.assert_allclose(people.scores[0, valid], scores[order], atol=2e-5)
    np.testing.assert_allclose(people.keypoints[0, valid], xy_score[order][..., :2], atol=2e-4)
    np.testing.assert_allclose(people.keypoint_scores[0, valid], xy_score[order][..., 2], atol=1e-5)


def test_scoring_features_and_predicted_oks():
    want = golden.arrays("evaluate_multi")
    poses = want["people_xy_score"]
    poses = poses[..., :2], poses[..., 2]
    features = pose_scoring.pose_features(*poses, skeletons.COCO)
    np.testing.assert_allclose(features, want["scoring_features"], atol=1e-5)
    predicted = pose_scoring.predicted_oks(golden.released()[2], *poses, skeletons.COCO)
    np.testing.assert_allclose(predicted, want["predicted_oks"], atol=1e-5)


# ---- Training


def test_targets():
    want = golden.arrays("targets")
    config = load_config("dekr_coco").targets
    assert config.center_sigma == want["center_sigma_in_effect"]
    to_input = [4, 4, 1]
    keypoints, centers, area = (
        jnp.array(x[None], jnp.float32)
        for x in (want["keypoints_xyv"] * to_input, want["centers_xyv"] * to_input, want["area"])
    )
    size = int(want["output_size"])
    everywhere = jnp.ones((1, size, size), bool)
    found = render(keypoints, centers[:, :, None], area, everywhere, config, config.center_sigma)
    heatmaps = joined(found.keypoint_heatmaps[0], found.part_heatmaps[0])
    np.testing.assert_allclose(heatmaps, want["heatmaps"], atol=1e-6)
    mask = joined(found.keypoint_mask[0], found.part_mask[0])
    np.testing.assert_array_equal(mask, want["mask"])
    offsets = np.reshape(found.offsets[0], want["offsets"].shape)
    np.testing.assert_allclose(offsets, want["offsets"], atol=1e-5)
    weights = np.repeat(np.reshape(found.offset_weights[0], (size, size, 17)), 2, -1)
    np.testing.assert_allclose(weights, want["offset_weights"], rtol=1e-6)


def test_centers_and_areas_of_annotations():
    want = golden.arrays("joints")
    keypoints = want["keypoints_xyv"].astype(np.float32)
    nothing = np.zeros((6, 4)), np.zeros(6)
    area = targets.person_area(keypoints, *nothing, "released")
    np.testing.assert_allclose(area, want["released_area"], rtol=1e-5)
    batch = {
        "keypoints": jnp.array(keypoints[None]),
        "area": jnp.ones((1, 6)),
        "annotation_area": jnp.array(want["annotation_area"][None], jnp.float32),
    }
    found = np.asarray(targets.person_centers(batch, load_config("dekr_coco")))[0, :, 0]
    released = want["joints_with_center_xyv"][:, 17]
    labelled = (keypoints[..., 2] > 0).any(1)  # without any, the release puts a centre at (0, 0)
    np.testing.assert_array_equal(found[:, 2], (released[:, 2] > 0) & labelled)
    has_center = found[:, 2] > 0
    np.testing.assert_allclose(found[has_center, :2], released[has_center, :2], rtol=1e-6)


def test_boxes_give_the_papers_area():
    person = np.zeros((1, 17, 3)), np.array([[3.0, 4.0, 10.0, 20.0]]), np.array([120.0])
    assert targets.person_area(*person, "box") == [500]
    assert targets.person_area(*person, "segment") == [120]


def test_a_training_step():
    want = golden.arrays("train_step")
    config, model, variables = golden.released()
    images = want["images_u8"]
    keypoints = np.stack([want["keypoints_xyv_0"], want["keypoints_xyv_1"]]) * [4, 4, 1]
    area = np.stack([want["area_0"], want["area_1"]]).astype(np.float32)
    batch = {
        "keypoints": keypoints.astype(np.float32),
        "area": area,
        "annotation_area": np.full(area.shape, 1e6, np.float32),
        "region_mask": np.ones((len(images), 32, 32), bool),
    }

    def run(variables, images, batch):
        def loss(params):
            wanted = dekr.targets_of(model, batch, config)
            stats = variables["batch_stats"]
            return dekr.train_loss(model, params, stats, normalise(images), wanted, config)

        gradients, (metrics, stats) = jax.grad(loss, has_aux=True)(variables["params"])
        squares = traverse_util.flatten_dict({"params": gradients})
        return metrics, stats, squares

    metrics, stats, gradients = compiled.run_once(run, variables, images, batch)
    np.testing.assert_allclose(metrics["heatmap_loss"], want["heatmap_loss_float64"], rtol=1e-5)
    np.testing.assert_allclose(metrics["offset_loss"], want["offset_loss_float64"], rtol=1e-4)
    norms = dict(zip(want["grad_norm_names"], want["grad_norms_float64"], strict=True))
    assert_gradient_norms(gradients, norms)
    after = convert.to_torch({"params": variables["params"], "batch_stats": stats})
    for name in filter(lambda name: name.startswith("after/"), want):
        close(after[name.removeprefix("after/")], want[name], 1e-4)


def assert_gradient_norms(gradients, norms):
    """Heads at 1e-2, the two convolutions that place the taps at 6e-2, as PyTorch itself."""
    unflat = traverse_util.unflatten_dict(gradients)
    stats = jax.tree.map(np.zeros_like, golden.released()[2]["batch_stats"])
    released = convert.to_torch({**unflat, "batch_stats": stats})
    checked = 0
    for name, norm in norms.items():
        head = name.startswith(dekr.released.HEADS)
        places = "transform_matrix_conv" in name or "translation_conv" in name
        tolerance = 6e-2 if places else 1e-2 if head else 2e-2
        found = np.linalg.norm(np.asarray(released[name], np.float64))
        assert abs(found - norm) <= tolerance * norm + 1e-9, (name, found, norm)
        checked += 1
    assert checked == 1201


def test_a_keypoint_that_nobody_has_trains_nothing():
    want = golden.arrays("train_step")
    zero = {n for n, x in zip(want["grad_norm_names"], want["grad_norms"], strict=True) if x == 0}
    assert len(zero) == 16 and all(".8." in name for name in zero)


def test_the_mirrored_view_keeps_its_last_columns():
    image = jnp.arange(6.0)[None, None, :, None].repeat(3, -1)
    np.testing.assert_array_equal(
        candidates.mirrored_view(image, 3)[0, 0, :, 0], [2, 1, 0, 2, 1, 0]
    )
    np.testing.assert_array_equal(
        candidates.mirrored_view(image, 0)[0, 0, :, 0], [5, 4, 3, 2, 1, 0]
    )
