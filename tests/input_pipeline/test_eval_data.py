import json

import numpy as np
import pytest

from input_pipeline import eval_data
from input_pipeline.storage import splits
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.inference import network_input
from tests.input_pipeline import fake_coco

NUM_IMAGES, BATCH, INPUT_SIZE, SCALES = 11, 3, 64, (0.5, 1.0)
SIZES = ((60, 90), (90, 60), (60, 61))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval_data")
    fake_coco.write_fake_coco(folder / "coco", num_images=NUM_IMAGES, sizes=SIZES)
    return load_config(
        "base",
        {
            "dataset.data_dir": str(folder / "coco"),
            "dataset.prepared_dir": str(folder / "prepared"),
            "eval.input_size": INPUT_SIZE,
            "eval.batch_size": BATCH,
            "eval.scales": SCALES,
        },
    )


def all_ids(split_number: int) -> list[int]:
    return [1000 * split_number + i for i in range(NUM_IMAGES)]


def valid_ids(batches) -> list[int]:
    return np.concatenate([batch.image_id[batch.valid] for batch in batches]).tolist()


@pytest.mark.parametrize(("split", "split_number"), [("train", 1), ("val", 2)])
def test_every_image_once_in_a_fixed_order(config, split, split_number):
    ids = valid_ids(eval_data.eval_batches(config, split))
    assert sorted(ids) == all_ids(split_number)
    assert ids == valid_ids(eval_data.eval_batches(config, split))
    assert len(splits.open_split(config, split)) == NUM_IMAGES


def test_batches_are_full_and_hold_the_network_inputs(config):
    batches = list(eval_data.eval_batches(config, "val"))
    assert any(not batch.valid.all() for batch in batches)
    for batch in batches:
        assert len(batch.images) == len(SCALES)
        assert batch.to_image.dtype == np.float32
        assert batch.image_id.dtype == np.int64
        assert batch.image_id.shape == batch.valid.shape == (BATCH,)
        originals = eval_data.load_images(config, "val", batch.image_id.tolist())
        for n, (image, _) in enumerate(originals):
            expected = network_input.prepare(image, INPUT_SIZE, SCALES)
            np.testing.assert_array_equal(batch.to_image[n], expected.to_image)
            for actual, warped in zip(batch.images, expected.images, strict=True):
                np.testing.assert_array_equal(actual[n], warped)


def test_hosts_share_the_images_in_step(config):
    hosts = [list(eval_data.eval_batches(config, "val", h, 2)) for h in range(2)]
    assert sorted(valid_ids(hosts[0]) + valid_ids(hosts[1])) == all_ids(2)
    for one, other in zip(*hosts, strict=True):
        assert [i.shape for i in one.images] == [i.shape for i in other.images]


def test_plan_fills_up_and_never_mixes_sizes():
    plan = eval_data.plan_batches(["a", "b", "a", "a", "b", "a"], batch_size=3, host_count=1)
    assert plan == [
        [(0, True), (2, True), (3, True)],
        [(5, True), (5, False), (5, False)],
        [(1, True), (4, True), (4, False)],
    ]


def test_load_images_gives_pictures_and_persons(config):
    content = json.loads(splits.annotations_path(config, "val").read_text())
    (image, persons), (_, nobody) = eval_data.load_images(config, "val", [2003, 2004])
    annotations = [
        a for a in content["annotations"] if a["image_id"] == 2003 and a["num_keypoints"]
    ]
    assert image.shape == (*SIZES[0], 3)
    assert persons["id"].tolist() == [a["id"] for a in annotations]
    np.testing.assert_array_equal(
        persons["keypoints"], np.reshape([a["keypoints"] for a in annotations], (-1, 17, 3))
    )
    assert nobody["keypoints"].shape == (0, 17, 3)
    assert nobody["bbox"].shape == (0, 4)


def test_load_images_names_an_unknown_id(config):
    with pytest.raises(UserError, match="no image 7"):
        eval_data.load_images(config, "val", [7])
