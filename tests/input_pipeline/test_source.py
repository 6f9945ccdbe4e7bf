import itertools

import jax
import numpy as np
import pytest

from input_pipeline import eval_data, train_data
from input_pipeline.source import Source
from input_pipeline.storage import splits
from input_pipeline.synthcrowd import stream
from tests import programs, tiny
from tests.input_pipeline import fake_coco

pytestmark = pytest.mark.slow

NUM_IMAGES = 6


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    fake_coco.write_fake_coco(folder / "coco", num_images=NUM_IMAGES, splits=("train", "val"))
    places = {"data_dir": folder / "coco", "prepared_dir": folder / "prepared", "name": "coco"}
    return tiny.config(**{f"dataset.{name}": str(place) for name, place in places.items()})


def assert_same_batch(a, b):
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_a_dataset_on_disk(config):
    source = Source(config)
    assert source.eval_name == "coco val"
    assert source.examples_per_epoch() == train_data.examples_per_epoch(config)
    assert_same_batch(
        next(source.train_batches(3)), next(train_data.train_batches(config, start_step=3))
    )
    for mine, wanted in itertools.zip_longest(
        source.eval_batches(), eval_data.eval_batches(config, "val")
    ):
        np.testing.assert_array_equal(mine.image_id, wanted.image_id)
    assert source.num_eval_images() == NUM_IMAGES
    assert source.eval_annotations() == splits.annotations_path(config, "val")


def test_ids_with_people_leave_out_empty_images(config):
    ids = Source(config).eval_ids_with_people()
    assert ids == [2000 + i for i in range(NUM_IMAGES) if i % 4]  # the rest show nobody
    (_, persons), *_ = Source(config).load_eval_images(ids)
    assert len(persons["keypoints"])


def test_processes_get_their_shares(config, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    shares = []
    for process in range(2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        shares.append(next(Source(config).train_batches(0))["image_id"])
    together = next(train_data.train_batches(config, 0))["image_id"]
    assert sorted(np.concatenate(shares)) == sorted(together)


def test_the_stream_is_evaluated_on_the_same_crowd_on_disk(tmp_path):
    config = tiny.config(**{"dataset.data_dir": str(tmp_path)})
    source = Source(config)
    assert config.dataset.name == "synthcrowd_stream" and source.eval_name == "synthcrowd val"
    assert source.examples_per_epoch() == config.synthcrowd.num_train
    wanted = next(stream.batches(config, config.train.batch_size, 5))
    assert_same_batch(next(source.train_batches(5)), wanted)
    assert source.num_eval_images() == config.synthcrowd.num_val
    assert source.eval_annotations().is_relative_to(tmp_path)


def test_the_stream_needs_no_tensorflow():
    code = "from input_pipeline.source import Source; from tests import tiny; "
    code += "print(next(Source(tiny.config()).train_batches(0))['image'].shape)"
    blocked = "import sys; sys.modules['tensorflow'] = None; "
    assert programs.output_anew("-c", blocked + code).strip() == "(4, 64, 64, 3)"
