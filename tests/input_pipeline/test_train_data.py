import json

import numpy as np
import pytest

from input_pipeline import train_data
from input_pipeline.storage import splits
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from tests.input_pipeline import fake_coco

NUM_IMAGES, BATCH, SIZE, SLOTS = 8, 4, 64, 2


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train_data")
    fake_coco.write_fake_coco(folder / "coco", num_images=NUM_IMAGES)
    return load_config(
        "base",
        {
            "dataset.data_dir": str(folder / "coco"),
            "dataset.prepared_dir": str(folder / "prepared"),
            "dataset.max_persons": SLOTS,
            "train.batch_size": BATCH,
            "train.input_size": SIZE,
        },
    )


def take(batches, count: int) -> list:
    return [next(batches) for _ in range(count)]


def changed(config, **fields):
    copy = config.copy_and_resolve_references().unlock()
    copy.update_from_flattened_dict(fields)
    return copy


def assert_batches_equal(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_batches_keep_the_contract(config):
    batch = next(train_data.train_batches(config, 0))
    assert {name: (array.dtype.name, array.shape) for name, array in batch.items()} == {
        "image": ("uint8", (BATCH, SIZE, SIZE, 3)),
        "keypoints": ("float32", (BATCH, SLOTS, 17, 3)),
        "area": ("float32", (BATCH, SLOTS)),
        "annotation_area": ("float32", (BATCH, SLOTS)),
        "corners": ("float32", (BATCH, SLOTS, 4, 2)),
        "region_mask": ("bool", (BATCH, SIZE // 4, SIZE // 4)),
        "image_id": ("int64", (BATCH,)),
        "num_dropped": ("int32", (BATCH,)),
    }
    padding = batch["area"] == 0
    np.testing.assert_array_equal(batch["keypoints"][padding], 0)
    assert batch["image"].any()
    assert (batch["keypoints"][~padding][..., 2] > 0).any(axis=-1).all()


def test_only_images_with_enough_keypoints_once_an_epoch(config):
    labelled = [i for i in range(NUM_IMAGES) if i % 4 > 0]  # the others have no person
    assert train_data.examples_per_epoch(config) == len(labelled)
    ids = np.concatenate([b["image_id"] for b in take(train_data.train_batches(config, 0), 6)])
    epochs = ids.reshape(4, len(labelled))
    for epoch in epochs:
        assert sorted(epoch) == [1000 + i for i in labelled]
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_min_train_keypoints_counts_the_whole_image(config):
    two_persons = changed(config, **{"dataset.min_train_keypoints": 18})
    assert train_data.examples_per_epoch(two_persons) == 4
    impossible = changed(config, **{"dataset.min_train_keypoints": 1000})
    with pytest.raises(UserError, match=r"--config\.dataset\.min_train_keypoints"):
        train_data.train_batches(impossible, 0)


def test_resuming_continues_the_same_sequence(config):
    whole = take(train_data.train_batches(config, 0), 5)
    assert_batches_equal(take(train_data.train_batches(config, 3), 2), whole[3:])
    assert not np.array_equal(whole[0]["image"], whole[1]["image"])


def test_a_far_step_is_reached_at_once(config):
    batch = next(train_data.train_batches(config, 10**9))
    assert batch["image"].shape == (BATCH, SIZE, SIZE, 3)


@pytest.mark.parametrize("host_count", [2, 4])
def test_hosts_share_the_one_sequence(config, host_count):
    whole = take(train_data.train_batches(config, 1), 3)
    hosts = [take(train_data.train_batches(config, 1, h, host_count), 3) for h in range(host_count)]
    joined = [
        {name: np.concatenate([batch[name] for batch in step]) for name in step[0]}
        for step in zip(*hosts, strict=True)
    ]
    assert_batches_equal(joined, whole)


def test_hosts_that_cannot_share_a_batch(config):
    with pytest.raises(UserError, match=r"config\.train\.batch_size: 4.*3 hosts"):
        train_data.train_batches(config, 0, 0, 3)


def test_the_seed_changes_order_and_crops(config):
    one = next(train_data.train_batches(config, 0))
    other = next(train_data.train_batches(changed(config, seed=1), 0))
    assert not np.array_equal(one["image"], other["image"])


def unaugmented(config, **fields):
    """Crops of the whole image: all persons stay visible."""
    still = {f"augmentation.{name}": 0.0 for name in ("rotation", "translation", "flip")}
    return changed(config, **still, **{"augmentation.scale": (1.5, 1.5)}, **fields)


def area_of(annotation: dict, kind: str) -> float:
    width, height = annotation["bbox"][2:]
    return annotation["area"] if kind == "segment" else width * height


@pytest.mark.parametrize("kind", ["box", "segment"])
def test_people_have_the_area_that_is_asked_for_and_the_largest_a_slot(config, kind):
    plain = unaugmented(config, **{"targets.area": kind})
    content = json.loads(splits.annotations_path(config, "train").read_text())
    persons = {i["id"]: [] for i in content["images"]}
    for annotation in content["annotations"]:
        if annotation["num_keypoints"]:
            persons[annotation["image_id"]].append(area_of(annotation, kind))
    for batch in take(train_data.train_batches(plain, 0), 2):
        for n, image_id in enumerate(batch["image_id"]):
            areas = sorted(persons[image_id], reverse=True)
            assert batch["num_dropped"][n] == max(0, len(areas) - SLOTS)
            kept = areas[:SLOTS] + [0.0] * (SLOTS - len(areas))
            zoom = SIZE / (1.5 * 60)
            np.testing.assert_allclose(batch["area"][n], np.array(kept) * zoom**2, rtol=1e-4)


def test_masked_regions_arrive(config):
    inside = changed(config, **{"targets.mask_outside": False})
    batches = take(train_data.train_batches(inside, 0), 3)
    assert any(not batch["region_mask"].all() for batch in batches)
    assert all(batch["region_mask"].mean() > 0.5 for batch in batches)


def test_what_lies_outside_the_photo_is_masked(config):
    """Two thirds of a crop of 1.5 short sides, of images of 2 x 3, are photo."""
    batch, whole = (
        next(train_data.train_batches(unaugmented(config, **{"targets.mask_outside": m}), 0))
        for m in (True, False)
    )
    for mask, regions in zip(batch["region_mask"], whole["region_mask"], strict=True):
        assert 0.60 < mask.mean() < 0.72 and regions.mean() > 0.95
        np.testing.assert_array_equal(mask & regions, mask)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert sorted([np.ptp(rows) + 1, np.ptp(columns) + 1]) in ([11, 16], [10, 16])
