import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import get_config
from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import normalise
from pinet_jax.inference import predict as prediction
from pinet_jax.inference.fusion import join
from pinet_jax.inference.network_input import prepare
from pinet_jax.methods.peaks import find_peaks
from pinet_jax.methods.pinet import candidates as inference
from pinet_jax.methods.pinet import decoding, network
from pinet_jax.methods.variables import shapes
from tests import compiled
from tests.paths import GOLDEN

# ---- The released network's numbers, on W32 with stand-in weights


@pytest.mark.slow
def test_golden_flip_test(released):
    config, model, variables = released
    image = np.load(GOLDEN / "forward_coco.npz")["image_nhwc"]
    golden = np.load(GOLDEN / "predict_flip_coco.npz")
    heatmaps, _, found = compiled.run_once(
        lambda v, i: inference.one_scale(model, v, i, config), variables, image
    )
    np.testing.assert_allclose(heatmaps, golden["keypoint_heatmaps"], atol=4e-5)
    valid = found.valid[0]
    np.testing.assert_allclose(found.part_scores[0, valid], golden["part_scores"], atol=4e-5)
    np.testing.assert_allclose(found.poses[0, valid], golden["poses_xy"], atol=1e-3)


@pytest.mark.slow
def test_golden_whole_test_procedure(released):
    config, model, variables = released
    golden = np.load(GOLDEN / "evaluate_image_coco.npz")
    to_image = prepare(golden["image_u8"], 128, (1.0,)).to_image

    def run(variables, image, to_image):
        found = inference.find_candidates(model, variables, (image,), to_image, config)
        settings = skeletons.COCO.sigmas, 0.7, True
        return found, join(found.poses, found.keypoint_scores, found.valid, *settings)[0]

    warped = golden["network_input_u8_scale_1.0"]
    found, people = compiled.run_once(run, variables, warped[None], to_image[None])
    valid = found.valid[0]
    want = golden["candidates_xy_score"]
    np.testing.assert_allclose(found.poses[0, valid], want[..., :2], atol=4e-3)
    np.testing.assert_allclose(found.keypoint_scores[0, valid], want[..., 2], atol=1e-4)

    order = np.argsort(-golden["fused_scores"])
    valid = people.valid[0]
    assert valid.sum() == len(order)
    want = golden["fused_xy_score"][order]
    np.testing.assert_allclose(people.scores[0, valid], golden["fused_scores"][order], atol=1e-4)
    np.testing.assert_allclose(people.keypoints[0, valid], want[..., :2], atol=4e-3)
    np.testing.assert_allclose(people.keypoint_scores[0, valid], want[..., 2], atol=1e-4)


# ---- The test procedure against loops, on a network that compiles in no time


class PatchBackbone(nn.Module):
    """Features of 4x4 patches; not symmetric, so that a mirrored view is another one."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.relu(nn.Conv(8, (4, 4), (4, 4), padding="VALID")(images))


def patch_network(config, seed=0):
    """PINet on PatchBackbone with random variables, and these."""
    model = network.build(config).clone(backbone=PatchBackbone())
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        values = rng.normal(size=leaf.shape).astype(np.float32) / 3
        return np.abs(values) + 0.5 if "var" in jax.tree_util.keystr(path) else values

    return model, jax.tree_util.tree_map_with_path(fill, shapes(model))


def small_config(**changes):
    config = get_config()
    config.dtype = "float32"
    config.model.graph_layers = 1
    config.eval.max_peaks = 5
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return config


def slow_scale(model, variables, image, config):
    """Keypoint heatmaps and (part, score, center, proposal, pose) of each peak, view by view."""
    skeleton = skeletons.get(config.dataset.skeleton)
    flip_order = list(skeleton.flip_order)
    parts = [set(part) for part in skeleton.parts(config.model.partition)]
    twins = [parts.index({flip_order[k] for k in part}) for part in parts]
    mirrored = np.zeros_like(image)
    shift = config.eval.flip_shift
    mirrored[:, : image.shape[1] - shift] = image[:, ::-1][:, shift:]
    views = [image, mirrored] if config.eval.flip else [image]
    apply = jax.jit(lambda image: model.apply(variables, image[None], train=False))
    refine = jax.jit(functools.partial(model.apply, variables, train=False, method="refine"))
    maps = [jax.device_get(apply(view)) for view in views]
    last = maps[0].offsets.shape[2] - 1

    heatmaps = maps[0].keypoint_heatmaps
    part_heatmaps = maps[0].part_heatmaps
    if config.eval.flip:
        heatmaps = (heatmaps + maps[1].keypoint_heatmaps[:, :, ::-1][..., flip_order]) / 2
        part_heatmaps = (part_heatmaps + maps[1].part_heatmaps[:, :, ::-1][..., twins]) / 2
    peaks = find_peaks(
        jnp.asarray(part_heatmaps), config.eval.max_peaks, config.eval.peak_threshold, window=3
    )
    found = []
    for part, peak in np.ndindex(peaks.valid.shape[1:]):
        if not peaks.valid[0, part, peak]:
            continue
        x, y = np.asarray(peaks.centers[0, part, peak])
        proposals, poses = [], []
        for is_mirrored, view in enumerate(maps):
            center = np.array([last - x if is_mirrored else x, y])
            channel = twins[part] if is_mirrored else part
            proposal = center - view.offsets[0, center[1], center[0], channel]
            delta = refine(
                view.features, proposal[None, None], center[None, None], np.ones((1, 1), bool)
            )
            for results, pose in ((proposals, proposal), (poses, proposal - delta[0, 0])):
                if is_mirrored:
                    pose = np.array([[last - pose[k][0], pose[k][1]] for k in flip_order])
                results.append(np.asarray(pose))
        score = float(peaks.scores[0, part, peak])
        found.append([part, score, np.array([x, y]), np.mean(proposals, 0), np.mean(poses, 0)])
    return jnp.asarray(heatmaps), found


def slow_candidates(model, variables, images, to_image, config):
    """The candidates of one image, each (part, r_p, center, proposal, pose, r)."""
    scales = config.eval.scales
    heatmaps, found = zip(
        *(
            slow_scale(model, variables, np.asarray(normalise(jnp.asarray(i))), config)
            for i in images
        ),
        strict=True,
    )
    best = {s: max((f[1] for f in fs), default=1) for s, fs in zip(scales, found, strict=True)}
    size = tuple(int(side / scales[0]) for side in images[0].shape[:2])
    results = []
    for scale, fs in zip(scales, found, strict=True):
        for part, score, *points in fs:
            if scale != 1:
                score = score / best[scale] * best.get(1.0, 1) * config.eval.scale_decrease
            points = [p * 4 / scale for p in points]
            pose = points[-1].astype(np.float32)
            pose = jnp.asarray(pose[None, None])
            r_k = decoding.keypoint_scores(heatmaps, scales, pose, size)[0, 0]
            points = [p @ to_image[:, :2].T + to_image[:, 2] for p in points]
            results.append((part, score, *points, score * r_k))
    return results


VARIANTS = {
    "three parts, flip": small_config(),
    "no flip": small_config(eval__flip=False),
    "other shift": small_config(eval__flip_shift=0),
    "three scales": small_config(eval__scales=(0.5, 1.0, 2.0), eval__scale_decrease=0.8),
    "scale 1 absent, no refinement": small_config(
        eval__scales=(2.0, 0.5), model__refinement=False, eval__flip=False
    ),
    "14 keypoints, one part": small_config(
        dataset__skeleton="crowdpose", model__partition="center", eval__max_peaks=12
    ),
    "14 keypoints, 13 parts": small_config(
        dataset__skeleton="crowdpose", model__partition="keypoint", eval__max_peaks=2
    ),
    "7 parts": small_config(model__partition="part-small", eval__max_peaks=3),
}


def random_images(config, batch, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        rng.integers(0, 255, (batch, int(64 * s), int(128 * s), 3), dtype=np.uint8)
        for s in config.eval.scales
    )


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_candidates_against_loops(variant):
    config = VARIANTS[variant]
    model, variables = patch_network(config)
    images = random_images(config, 1)
    to_image = np.array([[[1.5, 0.1, -20], [-0.2, 1.25, 3]]], np.float32)
    found = jax.jit(lambda *args: inference.find_candidates(model, *args, config))(
        variables, images, to_image
    )
    want = slow_candidates(model, variables, [i[0] for i in images], to_image[0], config)
    valid = np.asarray(found.valid[0])
    assert len(want) > 5
    for field, values in zip(
        ("part", "part_scores", "centers", "proposals", "poses", "keypoint_scores"),
        zip(*want, strict=True),
        strict=True,
    ):
        got = np.asarray(getattr(found, field)[0])[valid]
        np.testing.assert_allclose(got, np.array(values), atol=2e-3, rtol=1e-4, err_msg=field)
    assert not found.keypoint_scores[0][~valid].any()
    assert np.any(want[0][-1])
    refined = not np.array_equal(found.poses, found.proposals)
    assert refined == config.model.refinement


def predict(config, images, to_image=None, seed=0):
    model, variables = patch_network(config, seed)
    if to_image is None:
        to_image = np.tile(np.eye(2, 3, dtype=np.float32), (len(images[0]), 1, 1))
    run = jax.jit(lambda *args: prediction.predict(model, *args, config))
    return jax.device_get(run(variables, images, to_image))


def assert_same(a, b, **tolerance):
    for field in ("keypoints", "keypoint_scores", "scores", "valid"):
        np.testing.assert_allclose(getattr(a, field), getattr(b, field), **tolerance)


PARTITIONS = [
    (skeleton, partition)
    for skeleton in (skeletons.COCO, skeletons.CROWDPOSE)
    for partition in skeleton.partitions
]


@pytest.mark.parametrize(("skeleton", "partition"), PARTITIONS, ids=lambda x: getattr(x, "name", x))
def test_a_mirrored_image_gives_mirrored_maps_and_poses(skeleton, partition):
    """With both views symmetric (shift 0) left and right parts only change places."""
    config = small_config(
        dataset__skeleton=skeleton.name, model__partition=partition, eval__flip_shift=0
    )
    model, variables = patch_network(config)
    (images,) = random_images(config, 1)

    @jax.jit
    def see(images):
        images = normalise(images)
        maps = inference.view_maps(model, variables, images, config)
        found = inference.one_scale(model, variables, images, config)[2]
        return *inference.score_maps(maps, config, model.parts), found

    heatmaps, part_heatmaps, found = see(images)
    mirrored_heatmaps, mirrored_part_heatmaps, mirrored_found = see(images[:, :, ::-1])
    keypoints = list(skeleton.flip_order)
    parts = [set(part) for part in skeleton.parts(partition)]
    twins = [parts.index({keypoints[k] for k in part}) for part in parts]
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    close(mirrored_heatmaps, heatmaps[:, :, ::-1][..., keypoints])
    close(mirrored_part_heatmaps, part_heatmaps[:, :, ::-1][..., twins])
    if partition in ("part-small", "keypoint"):  # the test could fail
        assert np.abs(mirrored_part_heatmaps - part_heatmaps[:, :, ::-1]).max() > 0.1

    by_part = [
        np.asarray(x[0]).reshape(len(parts), config.eval.max_peaks, *x.shape[2:])
        for f in (found, mirrored_found)
        for x in (f.poses, f.part_scores, f.valid)
    ]
    poses, scores, valid, mirrored_poses, mirrored_scores, mirrored_valid = by_part
    assert valid.any()
    np.testing.assert_array_equal(mirrored_valid, valid[twins])
    close(mirrored_scores, scores[twins])
    poses = poses[twins][:, :, keypoints]
    poses[..., 0] = heatmaps.shape[2] - 1 - poses[..., 0]
    close(mirrored_poses[mirrored_valid], poses[mirrored_valid], atol=1e-4)


@pytest.mark.slow
def test_order_of_scales_changes_nothing():
    config = small_config(eval__scales=(0.5, 1.0, 2.0))
    images = random_images(config, 2)
    people = predict(config, images)
    config.eval.scales = (2.0, 0.5, 1.0)
    again = predict(config, (images[2], *images[:2]))
    assert people.valid.sum() > 5
    assert_same(people, again, atol=1e-4)


@pytest.mark.slow
def test_images_of_a_batch_do_not_meet():
    config = small_config(eval__scales=(1.0, 0.5))
    images = random_images(config, 3)
    people = predict(config, images)
    alone = predict(config, tuple(i[1:2] for i in images))
    assert people.valid.any(-1).all()
    assert_same(jax.tree.map(lambda x: x[1:2], people), alone, atol=1e-4)


@pytest.mark.parametrize("pose_fusion", [True, False])
def test_people_fall_in_score(pose_fusion):
    config = small_config(eval__pose_fusion=pose_fusion, eval__oks_threshold=1e-4)
    people = predict(config, random_images(config, 2))
    for scores, valid in zip(people.scores, people.valid, strict=True):
        assert (np.diff(scores[valid]) <= 0).all()
        assert (np.diff(valid.astype(int)) <= 0).all()


def test_pose_fusion_only_raises_scores():
    config = small_config(eval__oks_threshold=1e-4)
    images = random_images(config, 2)
    fused = predict(config, images)
    config.eval.pose_fusion = False
    leaders = predict(config, images)
    np.testing.assert_array_equal(fused.valid, leaders.valid)
    assert (fused.scores >= leaders.scores).all()
    assert (fused.scores > leaders.scores).any()


def test_nobody_is_found_above_an_impossible_threshold():
    config = small_config(eval__peak_threshold=1e6, eval__scales=(1.0, 0.5))
    people = predict(config, random_images(config, 2))
    assert not any(np.any(field) for field in jax.tree.leaves(people))
