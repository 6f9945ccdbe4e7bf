import contextlib
import dataclasses

import jax
import numpy as np
import pytest

from configs.base import get_config
from pinet_jax import skeletons
from pinet_jax.config import with_fields
from pinet_jax.errors import UserError
from pinet_jax.inference.network_input import prepare
from pinet_jax.inference.predictor import Predictor, _prediction
from pinet_jax.methods.pinet import network
from pinet_jax.weights import reading
from tests import devices, tiny
from tests.paths import GOLDEN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config():
    config = get_config()
    config.dtype = "float32"
    config.model.update(width=8, stem_width=16, bottlenecks=1, modules=(1, 1, 1), blocks=1)
    config.model.conv_init = "he"
    config.eval.update(input_size=64, batch_size=2, max_peaks=4)
    return config


@pytest.fixture(scope="module")
def variables(config):
    return tiny.random_variables(network.build(config), seed=3)


@pytest.fixture(scope="module")
def predictor(config, variables):
    return Predictor(config, variables)


def image(height, width, seed):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


IMAGES = [image(90, 100, 0), image(200, 120, 1), image(64, 66, 2), image(70, 100, 3)]
"""Network sizes 64x128, 128x64, 64x128, 64x128."""


@pytest.fixture(scope="module")
def people(predictor):
    return predictor(IMAGES)


def test_people_are_trimmed_and_in_order(people):
    assert len(people) == len(IMAGES)
    assert any(len(found.scores) for found in people)
    for found in people:
        count = len(found.scores)
        assert found.keypoints.shape == (count, 17, 2)
        assert found.keypoint_scores.shape == (count, 17)
        assert found.valid.all()
        assert (np.diff(found.scores) <= 0).all()
        for array in (found.keypoints, found.keypoint_scores, found.scores):
            assert isinstance(array, np.ndarray)
            assert array.dtype == np.float32


def test_an_image_alone_gives_what_it_gives_among_others(predictor, people):
    for one, found in zip(IMAGES, people, strict=True):
        (alone,) = predictor([one])
        for field in ("keypoints", "keypoint_scores", "scores"):
            np.testing.assert_array_equal(getattr(alone, field), getattr(found, field))


def test_images_come_back_in_their_own_order(predictor, people):
    for found, reversed_found in zip(people, predictor(IMAGES[::-1])[::-1], strict=True):
        np.testing.assert_array_equal(found.keypoints, reversed_found.keypoints)


def test_a_compilation_that_takes_long_is_explained_once_a_network_size(
    config, variables, monkeypatch
):
    said = []

    def note(text):
        said.append(text)
        return contextlib.nullcontext()

    monkeypatch.setattr("pinet_jax.runtime.waiting.explained", note)
    _prediction.cache_clear()
    predictor = Predictor(config, variables)
    predictor(IMAGES)
    predictor(IMAGES)
    assert sorted(text[:45] for text in said) == [
        "compiling the prediction of 128 x 64 pixels, ",
        "compiling the prediction of 64 x 128 pixels, ",
    ]


def test_predictors_of_one_config_share_what_is_compiled(predictor, people, config, variables):
    other = jax.tree.map(lambda x: x + np.float32(0.01), variables)
    changed, again = Predictor(config, other), Predictor(config, variables)
    assert changed.compile_count == 2  # those of the first predictor
    assert len(changed(IMAGES)) == len(IMAGES)
    for found, want in zip(again(IMAGES), people, strict=True):
        np.testing.assert_array_equal(found.keypoints, want.keypoints)
    assert changed.compile_count == again.compile_count == 2
    unfused = with_fields(config, {"eval.pose_fusion": not config.eval.pose_fusion})
    unfused = Predictor(unfused, variables)
    unfused(IMAGES[:1])
    assert unfused.compile_count == 1


def test_one_compilation_a_network_size(predictor, people):
    """Whatever the number of images or of people, and whatever their exact sizes."""
    assert len({len(found.scores) for found in people}) > 1
    predictor([image(80, 128, 4)] * 5 + [image(60, 61, 5)] * 3)  # 64x128 again
    assert predictor.compile_count == 2


def test_a_batch_may_have_another_length_than_the_one_before(config, variables):
    inputs = [prepare(one, 64, (1.0,), 0.0) for one in (IMAGES[0], IMAGES[2], IMAGES[3])]
    whole = jax.tree.map(lambda *arrays: np.stack(arrays), *inputs)
    first = jax.tree.map(lambda x: x[:1], whole)
    with devices.use(1):
        predictor = Predictor(config, variables)
        people = [predictor.predict_batch(b.images, b.to_image) for b in (whole, first)]
    want, found = (one.of_image(0) for one in jax.device_get(people))
    np.testing.assert_allclose(found.keypoints, want.keypoints, atol=1e-3)
    assert len(found.scores) > 0


# ---- Devices

COUNTS = (1, 2, 4)


@pytest.fixture(scope="module")
def spread(config, variables):
    """A predictor on so many devices, and what it finds in a batch of three."""
    inputs = [prepare(one, 64, (1.0,), 0.0) for one in (IMAGES[0], IMAGES[2], IMAGES[3])]
    batch = jax.tree.map(lambda *arrays: np.stack(arrays), *inputs)
    found = {}
    for count in COUNTS:
        with devices.use(count):
            predictor = Predictor(config, variables)
            people = predictor.predict_batch(batch.images, batch.to_image)
            found[count] = predictor, batch, jax.device_get(people)
    return found


@pytest.mark.parametrize("count", COUNTS[1:])
def test_any_number_of_devices_finds_what_one_finds(spread, count):
    found, want = spread[count][2], spread[1][2]
    assert want.valid.any(1).all() and len(want.valid) == 3
    np.testing.assert_array_equal(found.valid, want.valid)
    np.testing.assert_allclose(found.keypoints, want.keypoints, atol=1e-3)
    np.testing.assert_allclose(found.keypoint_scores, want.keypoint_scores, atol=1e-3)


def test_devices_work_on_their_own(spread):
    """No device waits for another: the program has no operation that crosses them."""
    predictor, batch, _ = spread[2]
    pad = jax.tree.map(lambda x: np.concatenate([x, x[:1]]), (batch.images, batch.to_image))
    text = predictor._prediction._run.lower(predictor.variables, *pad).compile().as_text()
    assert "num_partitions=2" in text
    for name in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert name not in text


def test_no_images(predictor):
    assert predictor([]) == []


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        "people.jpg",
        None,
    ],
)
def test_what_is_no_image(predictor, unchecked, bad):
    with pytest.raises(UserError, match=r"images\[1\].*RGB uint8 array of shape"):
        predictor([IMAGES[0], bad])


def test_an_image_without_its_list(predictor, unchecked):
    with pytest.raises(UserError, match="list of images"):
        predictor(IMAGES[0])


def test_from_checkpoint_of_nothing(tmp_path):
    with pytest.raises(UserError):
        Predictor.from_checkpoint(tmp_path)


def test_from_checkpoint(monkeypatch, config, variables, predictor):
    monkeypatch.setattr(reading, "load_variables", lambda path: (config, variables))
    loaded = Predictor.from_checkpoint("run")
    found, want = loaded(IMAGES[:1])[0], predictor(IMAGES[:1])[0]
    np.testing.assert_array_equal(found.keypoints, want.keypoints)


def test_the_golden_image(released):
    """An image in, people out, as the authors' implementation finds them."""
    golden = np.load(GOLDEN / "evaluate_image_coco.npz")
    config, _, variables = released
    config = config.copy_and_resolve_references()
    config.eval.update(input_size=int(golden["input_size"]), batch_size=1)
    with devices.use(1):
        (people,) = Predictor(config, variables)([golden["image_u8"]])
    order = np.argsort(-golden["fused_scores"])
    assert len(people.scores) == len(order)
    want = golden["fused_xy_score"][order]
    # Another OpenCV warps to up to two other grey levels; with the same, 1e-3 holds.
    np.testing.assert_allclose(people.keypoints, want[..., :2], atol=0.1)
    np.testing.assert_allclose(people.scores, golden["fused_scores"][order], atol=1e-3)


@pytest.mark.parametrize("partition", ["part-large", "part-small", "keypoint"])
def test_people_of_a_mirrored_image_are_mirrored(config, partition):
    """With the flip test, shift 0, and an image that is the network's input itself."""
    config = config.copy_and_resolve_references()
    config.model.partition = partition
    config.eval.update(flip_shift=0, max_peaks=10)
    variables = tiny.random_variables(network.build(config), seed=3)
    small = {"offset_head": 0.05, "delta": 0.05}  # poses of random weights leave the image
    variables = jax.tree_util.tree_map_with_path(
        lambda path, x: x * next((f for n, f in small.items() if n in str(path)), 1), variables
    )
    seen = image(64, 128, 7)
    predictor = Predictor(config, variables)
    found = [inside(p) for p in predictor([seen, np.ascontiguousarray(seen[:, ::-1])])]
    (keypoints, scores), (mirrored_keypoints, mirrored_scores) = found
    assert len(scores) == len(mirrored_scores) > 3
    keypoints = keypoints[:, list(skeletons.COCO.flip_order)]
    keypoints[..., 0] = 124 - keypoints[..., 0]  # 31 heatmap pixels between first and last
    np.testing.assert_allclose(mirrored_scores, scores, rtol=1e-5)
    np.testing.assert_allclose(mirrored_keypoints, keypoints, atol=1e-3)


def inside(people):
    """Keypoints and scores of who is all inside: a score at the rim depends on the side."""
    rows = ((people.keypoints >= 0) & (people.keypoints <= (124, 60))).all((1, 2))
    return people.keypoints[rows], people.scores[rows]


def test_a_partition_that_cannot_be_mirrored_is_refused_with_the_flip_test_on(config):
    config = config.copy_and_resolve_references()
    one_sided = {"left": ((0, 1, 3), (5, 7, 9))}
    skeletons.use(config, dataclasses.replace(skeletons.COCO, name="own", partitions=one_sided))
    config.model.partition = "left"
    variables = tiny.random_variables(network.build(config))
    with pytest.raises(UserError, match=r"config.eval.flip: .*left_eye.*without its mirror image"):
        Predictor(config, variables)
    config.eval.flip = False
    Predictor(config, variables)
