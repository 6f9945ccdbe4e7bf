"""What the released CID computes, on W32 with stand-in weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from pinet_jax.backbones.hrnet import normalise
from pinet_jax.inference.network_input import prepare
from pinet_jax.inference.predict import join_people
from pinet_jax.methods.cid import candidates, losses, released, targets
from pinet_jax.weights import convert
from tests import compiled
from tests.paths import GOLDEN
from tests.pinet_jax.methods.cid import golden

pytestmark = pytest.mark.slow

VIEWS = ("original", "mirrored")


def close(found, want, of_maximum):
    np.testing.assert_allclose(found, want, rtol=0, atol=of_maximum * np.abs(want).max())


# ---- Inference


@pytest.fixture(scope="module")
def evaluated():
    """Golden arrays; maps of both views, evidence, people, and three instances' heatmaps."""
    config, model, variables = golden.released()
    want = golden.arrays("evaluate")
    to_image = prepare(want["image_u8"], int(want["input_size"]), (1.0,)).to_image[None]
    centers = want["instance_centers_yx"][:3, ::-1].astype(np.int32)

    def run(variables, image, to_image):
        maps = candidates.view_maps(model, variables, normalise(image), config)
        seen = candidates.inspect(model, variables, (image,), to_image, config)
        view = jnp.repeat(jnp.arange(2), 3)
        at = jnp.tile(centers, (2, 1))
        vectors = maps.features[view, at[:, 1], at[:, 0]]
        own = model.apply(variables, maps.reduced[view], vectors, at, method="instances")
        return maps, seen, join_people(seen.candidates, variables, config)[0], own

    return want, *compiled.run_once(run, variables, want["network_input_u8"][None], to_image)


def test_features_and_heatmaps_of_both_views(evaluated):
    want, maps, _, _, own = evaluated
    features = np.stack([maps.features[0], maps.features[1, :, ::-1]])  # as the network saw it
    close(features[..., ::40], want["features_every_40th_channel"], 3e-6)
    logits = want["multi_heatmap_logits_both_views"].astype(np.float64)
    np.testing.assert_allclose(maps.heatmaps, 1 / (1 + np.exp(-logits)), atol=1e-5)
    for view, name in zip(np.split(own, 2), VIEWS, strict=True):
        heatmaps = want[f"first_3_instance_heatmaps_{name}_view"]
        np.testing.assert_allclose(view, heatmaps, atol=1e-5)


def test_candidates(evaluated):
    want, _, seen, _, _ = evaluated
    found = seen.candidates
    valid = found.valid[0]
    assert valid.sum() == len(want["instance_scores"])
    np.testing.assert_allclose(found.part_scores[0, valid], want["instance_scores"], atol=1e-5)
    wanted = want["candidates_in_image"]
    np.testing.assert_allclose(found.poses[0, valid], wanted[..., :2], atol=1e-4)
    np.testing.assert_allclose(found.keypoint_scores[0, valid], wanted[..., 2], atol=1e-5)


def test_people(evaluated):
    want, _, _, people, _ = evaluated
    order = np.argsort(-want["people_scores"])
    valid = people.valid[0]
    assert valid.sum() == len(order)
    np.testing.assert_allclose(people.scores[0, valid], want["people_scores"][order], atol=1e-5)
    wanted = want["people_xy_score"][order]
    np.testing.assert_allclose(people.keypoints[0, valid], wanted[..., :2], atol=1e-4)


# ---- Training


@pytest.fixture(scope="module")
def trained():
    """Golden arrays, targets, metrics and gradients of the step."""
    config, model, variables = golden.released()
    want = golden.arrays("train_step")

    def both(name):
        return np.stack([want[f"{name}_{i}"] for i in (0, 1)])

    batch = {
        "keypoints": (both("keypoints_xyv") * [4, 4, 1]).astype(np.float32),
        "corners": (both("boxes_corners") * 4).astype(np.float32),
        "region_mask": both("region_mask"),
        "area": np.full((2, 3), 5000, np.float32),
        "key": jax.random.split(jax.random.key(0), 2),
    }
    found = targets.targets_of(model, batch, config)

    def gradients(variables, images):
        def loss(params):
            return losses.train_loss(
                model, params, variables["batch_stats"], normalise(images), found, config
            )

        return jax.grad(loss, has_aux=True)(variables["params"])

    grads, (metrics, _) = compiled.run_once(gradients, variables, want["images_u8"])
    return want, jax.device_get(found), metrics, grads


def test_targets(trained):
    want, found, _, _ = trained
    instances = found.instances
    assert instances.valid.all()
    own = targets.instance_heatmaps(instances, (32, 32))
    for image in (0, 1):
        rows = slice(3 * image, 3 * image + 3)
        wanted = want[f"multi_heatmaps_{image}"]
        np.testing.assert_allclose(found.heatmaps[image], wanted, atol=1e-6)
        np.testing.assert_allclose(own[rows], want[f"instance_heatmaps_{image}"], atol=1e-6)
        centers = want[f"sampled_centers_yx_{image}"][:, ::-1]
        np.testing.assert_array_equal(instances.centers[rows], centers)
        masks = want[f"instance_masks_{image}"]
        np.testing.assert_array_equal(instances.labelled[rows], masks > 0)


def test_losses(trained):
    want, _, metrics, _ = trained
    for ours, theirs in (
        ("heatmap_loss", "multi_heatmap_loss"),
        ("instance_loss", "single_heatmap_loss"),
        ("contrastive_loss", "contrastive_loss"),
    ):
        assert metrics[ours] == pytest.approx(float(want[theirs]), rel=1e-5), ours
    assert metrics["num_instances"] == 6


def test_gradients(trained):
    want, _, _, grads = trained
    norms = dict(zip(want["grad_norm_names"], want["grad_norms_float64"], strict=True))
    for path, gradient in traverse_util.flatten_dict({"params": grads}).items():
        name = convert.released_name(path, released)
        least = 2e-2 if name.startswith("backbone.") else 2e-4
        norm = np.linalg.norm(gradient.astype(np.float64))
        assert norm == pytest.approx(norms.pop(name), rel=least), name
    assert not norms


def test_radius():
    want = golden.arrays("radius")
    height, width = np.float32(want["height_width"]).T
    found = targets.gaussian_radius(height, width, 0.7)
    np.testing.assert_allclose(found, want["radius"], rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(found).astype(int), want["radius"].astype(int))


# ---- Weights


def test_every_released_entry_comes_back_bit_for_bit():
    manifest = json.loads((GOLDEN / "cid_manifest_coco.json").read_text())
    assert len(manifest) == 1844
    given, back = golden.state_dict(), convert.to_torch(golden.released()[2])
    assert set(back) == {name for name, _ in manifest}
    for name, shape in manifest:
        assert back[name].shape == tuple(shape)
        assert back[name].dtype == given[name].dtype
        np.testing.assert_array_equal(back[name], given[name], err_msg=name)
