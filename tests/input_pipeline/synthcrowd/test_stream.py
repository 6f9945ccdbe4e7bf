"""The endless stream: the batch contract, resuming, sharing out among hosts."""

import subprocess
import sys

import numpy as np
import pytest

from configs import demo
from input_pipeline import train_data
from input_pipeline.synthcrowd import stream
from pinet_jax.errors import UserError

pytestmark = pytest.mark.slow

SIZE, SLOTS = 32, 2


def tiny(**changes):
    config = demo.get_config()
    config.synthcrowd.image_size = config.train.input_size = SIZE
    config.synthcrowd.people = (0, 3)
    config.dataset.max_persons = SLOTS
    config.update_from_flattened_dict(changes)
    return config


def take(count, batch_size=4, **kwargs):
    batches = stream.batches(tiny(), batch_size, **kwargs)
    return [{k: np.asarray(v) for k, v in next(batches).items()} for _ in range(count)]


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_batches_keep_the_contract_resume_and_are_shared_out():
    zero, one, two = take(3, start_step=0)
    shapes = {name: (array.shape, array.dtype) for name, array in one.items()}
    assert shapes == {
        "image": ((4, SIZE, SIZE, 3), np.uint8),
        "keypoints": ((4, SLOTS, 17, 3), np.float32),
        "area": ((4, SLOTS), np.float32),
        "annotation_area": ((4, SLOTS), np.float32),
        "corners": ((4, SLOTS, 4, 2), np.float32),
        "region_mask": ((4, SIZE // 4, SIZE // 4), bool),
        "image_id": ((4,), np.int64),
        "num_dropped": ((4,), np.int32),
    }
    assert one["region_mask"].all()
    np.testing.assert_array_equal(one["image_id"], [4, 5, 6, 7])
    areas = np.concatenate([b["area"] for b in (zero, one, two)])
    dropped = np.concatenate([b["num_dropped"] for b in (zero, one, two)])
    assert np.all(areas[:, :-1] >= areas[:, 1:])  # the largest are kept
    assert set(dropped) == {0, 1} and np.all(areas[dropped == 1] > 0)

    again, following = take(2, start_step=1)
    assert_same(again, one)
    assert_same(following, two)

    # Two hosts halve batches of 8, so that everything is rendered by one program.
    hosts = [take(1, 8, start_step=0, host_index=h, host_count=2)[0] for h in (0, 1)]
    assert_same(hosts[0], zero)
    assert_same(hosts[1], one)


@pytest.mark.parametrize("kind", ["box", "segment"])
def test_people_have_the_area_that_they_have_on_disk(tmp_path, kind):
    still = {f"augmentation.{name}": 0.0 for name in ("rotation", "translation", "flip")}
    config = tiny(
        **still,
        **{
            "augmentation.scale": (1.0, 1.0),  # the scene as it is
            "targets.area": kind,
            "dataset.data_dir": str(tmp_path),
            "dataset.min_train_keypoints": 1,
            "dataset.max_persons": 3,
            "synthcrowd.num_train": 4,
            "synthcrowd.num_val": 1,
            "train.batch_size": 4,
        },
    )
    streamed = {k: np.asarray(v) for k, v in next(stream.batches(config, 4, 0)).items()}
    on_disk = next(train_data.train_batches(config, 0))
    assert streamed["area"].any()
    for n, number in enumerate(on_disk["image_id"]):
        for name in ("keypoints", "area", "annotation_area", "corners", "region_mask"):
            np.testing.assert_array_equal(on_disk[name][n], streamed[name][number], err_msg=name)


def test_another_seed_or_split_is_another_scene():
    numbers = np.arange(4)
    renders = stream.renderer(tiny()), stream.renderer(tiny(seed=1))
    images = [
        np.asarray(render(split, numbers).image)
        for render, split in ((renders[0], "train"), (renders[0], "val"), (renders[1], "train"))
    ]
    assert np.mean(images[0] != images[1]) > 0.5
    assert np.mean(images[0] != images[2]) > 0.5


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"train.input_size": 64}, "input_size"),
        ({"synthcrowd.image_size": 40}, "image_size"),
        ({"synthcrowd.people": (3, 2)}, "people"),
        ({"synthcrowd.people": (0, 0)}, "people"),
        ({"synthcrowd.pair_iou": 1.5}, "pair_iou"),
        ({"synthcrowd.height": (0.9, 0.5)}, "height"),
        ({"synthcrowd.num_val": 0}, "num_val"),
        ({"synthcrowd.yaw": 200.0}, "yaw"),
        ({"dataset.skeleton": "crowdpose"}, "skeleton"),
    ],
)
def test_bad_numbers_are_named(changes, field):
    with pytest.raises(UserError, match=field):
        next(stream.batches(tiny(**changes), 4, 0))


def test_a_batch_that_hosts_cannot_share_is_refused():
    with pytest.raises(UserError, match="batch_size"):
        next(stream.batches(tiny(), 4, 0, host_index=0, host_count=3))


def test_no_tensorflow_is_imported():
    code = "import sys, input_pipeline.synthcrowd.stream; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
