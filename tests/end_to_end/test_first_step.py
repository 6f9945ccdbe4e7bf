"""The first step from raw files to the three losses, beside a reading of the method's text.

The library's own way (prepared data, training batches, the jitted loss) on one side; on the
other `spec_reading.py`, which shares the network's output with it and nothing else.
"""

import functools

import cv2
import jax
import numpy as np
import pytest

from input_pipeline import augment, train_data
from input_pipeline.storage import downloads
from pinet_jax import skeletons
from pinet_jax.methods.pinet import network as pinet
from tests import tiny
from tests.end_to_end import spec_reading as spec
from tests.input_pipeline import fake_coco
from tests.whole_loss import whole_loss

SIZE = 128  # pixels of the network input's side: a map of 32
SAMPLES = 20  # locations a part; two people have more
FEWEST = 11  # labelled keypoints of an image that is trained on
CROWD, STREET, LONELY, FEW = 11, 12, 13, 14  # image ids
TRAINED = (CROWD, STREET, LONELY)
SHAPES = {CROWD: (96, 140), STREET: (120, 90), LONELY: (97, 131), FEW: (96, 96)}

ALL = range(17)
STILL = augment.Augmentation(0.0, 1.0, (0.0, 0.0), False)  # augmentation off
TURNED = augment.Augmentation(-20.0, 1.1, (14.0, -9.0), True)


def somebody(rng, image_id, box, share, labelled=ALL, **fields):
    """A person with keypoints anywhere in its box, whose segment has a share of the box."""
    x, y, width, height = box
    points = np.zeros((17, 3))
    for k in labelled:
        place = rng.uniform([x, y], [x + width, y + height]).round(2)
        points[k] = [*place, rng.integers(1, 3)]
    area = share * width * height
    return fake_coco.annotation(0, image_id, points, bbox=list(box), area=area, **fields)


def annotations(rng):
    """Everybody, in the file's order."""
    nobody = np.zeros((17, 3))
    band = 30 * SHAPES[STREET][0]  # columns 20 to 49 of the street
    crowd = {"size": list(SHAPES[STREET]), "counts": [20 * 120, band, 40 * 120]}
    polygon = [[40.0, 8.0, 70.0, 8.0, 70.0, 30.0, 40.0, 30.0]]
    return [
        # Side by side: the larger box has the smaller segment, so the areas disagree.
        somebody(rng, CROWD, (30.0, 5.0, 62.0, 85.0), 0.3),
        somebody(rng, CROWD, (36.0, 9.0, 50.0, 80.0), 0.9),
        somebody(rng, CROWD, (66.0, 40.0, 28.0, 30.0), 0.6),  # a segment below 32^2
        somebody(rng, CROWD, (80.0, 6.0, 14.0, 16.0), 0.6),  # a box below 32^2
        somebody(rng, CROWD, (100.0, 10.0, 40.0, 80.0), 0.5),  # in part outside the crop
        fake_coco.annotation(0, STREET, nobody, iscrowd=1, segmentation=crowd),
        somebody(rng, STREET, (10.0, 20.0, 45.0, 90.0), 0.5, iscrowd=1),  # and trained on
        somebody(rng, STREET, (30.0, 30.0, 55.0, 80.0), 0.4, labelled=[*range(5), 6, 11, 15]),
        fake_coco.annotation(0, STREET, nobody, segmentation=polygon),
        # No body and no foot, then no head: eleven keypoints together.
        somebody(rng, LONELY, (40.0, 15.0, 50.0, 70.0), 0.5, labelled=[0, 1, 2, 3, 7, 9]),
        somebody(rng, LONELY, (25.0, 20.0, 40.0, 60.0), 0.5, labelled=[5, 6, 12, 13, 16]),
        somebody(rng, FEW, (20.0, 20.0, 50.0, 60.0), 0.5, labelled=range(10)),
    ]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The JSON, the folder of its images, and the download that holds them."""
    folder = tmp_path_factory.mktemp("first_step")
    rng = np.random.default_rng(3)
    pictures = folder / fake_coco.IMAGES.format(split="train")
    pictures.mkdir()
    images = []
    for image_id, (height, width) in SHAPES.items():
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(pictures / f"{image_id}.jpg"), smooth)
        images.append({"id": image_id, "file_name": f"{image_id}.jpg"})
    people = [{**person, "id": n} for n, person in enumerate(annotations(rng), start=1)]
    return fake_coco.write_annotations(folder, "train", images, people), pictures, folder


@pytest.fixture(scope="module")
def config(raw):
    _, _, folder = raw
    config = tiny.config(
        **{
            "dataset.name": "coco",
            "dataset.data_dir": str(folder),
            "dataset.max_persons": 6,
            "dataset.min_train_keypoints": FEWEST,
            "losses.samples_per_part": SAMPLES,
            "train.input_size": SIZE,
            "train.batch_size": len(TRAINED),
        }
    )
    out = folder.parent / "first_step_prepared"
    downloads.prepare_into(config, out, "train")
    config.dataset.data_dir = str(out)
    return config


@functools.cache
def network():
    """The tiny network and its variables, whose losses are far from 0."""
    model = pinet.build(tiny.config())
    return model, tiny.random_variables(model)


@pytest.fixture(scope="module")
def our_losses(config):
    """A function from a batch to the library's metrics, compiled once."""
    model, variables = network()
    arguments = model, variables["params"], variables["batch_stats"]
    return jax.jit(lambda batch: whole_loss(*arguments, batch, config)[1][0])


def our_batch(config, crop, monkeypatch) -> dict[str, np.ndarray]:
    """The first training batch of the prepared files, its images in the order of TRAINED."""
    monkeypatch.setattr(augment, "sample_parameters", lambda *_: crop)
    stream = train_data.train_batches(config, 0)
    batch = next(stream)
    stream.close()
    assert sorted(batch["image_id"]) == list(TRAINED)
    order = np.argsort(batch["image_id"])
    return {name: values[order] for name, values in batch.items()}


@functools.cache
def _applied():
    """Maps of normalised images, and the deltas of sampled poses: both as in training."""
    model, variables = network()

    @jax.jit
    def maps_of(images):
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[0]

    @jax.jit
    def deltas_of(features, poses, centers, valid):
        arguments = features, poses, centers, valid
        return model.apply(
            variables, *arguments, train=True, mutable=["batch_stats"], method="refine"
        )[0]

    return maps_of, deltas_of


def read_losses(crops: list[spec.Crop], images: np.ndarray) -> tuple[float, float, float, int]:
    """The three losses, unweighted, and the number of samples, as the text has them.

    Args:
        crops: a batch.
        images: its pictures, which both sides must give the network to the last bit.
    """
    maps_of, deltas_of = _applied()
    maps = maps_of(spec.normalised(images).astype(np.float32))
    targets = [spec.targets_of(crop) for crop in crops]
    predicted = np.concatenate([maps.keypoint_heatmaps, maps.part_heatmaps], axis=-1)
    offsets = np.asarray(maps.offsets)
    regressed = [
        (offsets[b][at], one.offsets[at], one.weights[at])
        for b, one in enumerate(targets)
        for at in spec.weighted_locations(one)
    ]
    samples = [spec.sampled_locations(one, SAMPLES) for one in targets]
    shape = len(crops), SAMPLES * len(spec.PARTS)
    poses, centers = np.zeros((*shape, 17, 2), np.float32), np.zeros((*shape, 2), np.int32)
    valid = np.zeros(shape, bool)
    for b, rows in enumerate(samples):
        for n, (y, x, s) in enumerate(rows):
            poses[b, n] = np.array([x, y]) - offsets[b, y, x, s]
            centers[b, n], valid[b, n] = (x, y), True
    deltas = np.asarray(deltas_of(maps.features, poses, centers, valid))
    refined = [
        (offsets[b][at] + deltas[b, n], targets[b].offsets[at], targets[b].weights[at])
        for b, rows in enumerate(samples)
        for n, at in enumerate(rows)
    ]
    point = spec.point_loss(targets, predicted)
    return point, spec.offset_loss(regressed), spec.offset_loss(refined), len(refined)


def read_crops(raw, crop, **choices) -> list[spec.Crop]:
    path, pictures, _ = raw
    return [spec.crop_of(path, pictures, i, crop, SIZE, **choices) for i in TRAINED]


CASES = {
    "augmentation off": (STILL, {}),
    "a fixed crop": (TURNED, {}),
    "switched": (TURNED, {"area": "segment", "mask_outside": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_from_files_to_losses(raw, config, our_losses, case, monkeypatch):
    crop, choices = CASES[case]
    config = config.copy_and_resolve_references()
    config.targets.update(choices)
    batch = our_batch(config, crop, monkeypatch)
    crops = read_crops(raw, crop, **choices)

    for n, read in enumerate(crops):
        # The last bit of a matrix can round a pixel up or down.
        assert np.mean(batch["image"][n] != read.image) < 1e-3
        np.testing.assert_allclose(batch["image"][n].astype(int), read.image, atol=1)
        np.testing.assert_array_equal(batch["region_mask"][n], read.mask > 0)
        people = sorted(read.people, key=lambda person: -person.area)
        count = len(people)
        np.testing.assert_allclose(
            batch["area"][n, :count], [person.area for person in people], rtol=1e-6
        )
        np.testing.assert_allclose(
            batch["keypoints"][n, :count], [person.keypoints for person in people], atol=1e-4
        )
        assert not batch["area"][n, count:].any() and batch["num_dropped"][n] == 0

    names = ("image", "keypoints", "area", "region_mask")
    found = our_losses({name: batch[name] for name in names})
    point, offset, refinement, samples = read_losses(crops, batch["image"])
    assert found["num_samples"] == samples
    np.testing.assert_allclose(found["heatmap_loss"], point, rtol=1e-5)
    np.testing.assert_allclose(found["offset_loss"], 0.03 * offset, rtol=1e-5)
    np.testing.assert_allclose(found["refinement_loss"], 0.03 * refinement, rtol=1e-5)
    whole = point + 0.03 * offset + 0.03 * refinement
    np.testing.assert_allclose(found["loss"], whole, rtol=1e-5)


@pytest.mark.parametrize("crop", [STILL, TURNED])
def test_the_case_holds_what_it_is_meant_to_hold(raw, crop):
    """Else the agreement above says little."""
    path, _, _ = raw
    assert spec.trained_on(path, FEWEST) == set(TRAINED)
    crops, by_segment = read_crops(raw, crop), read_crops(raw, crop, area="segment")
    everywhere = read_crops(raw, crop, mask_outside=False)
    crowd, targets = crops[0], [spec.targets_of(read) for read in crops]
    areas = np.array([person.area for person in crowd.people])
    assert areas[0] > areas[1] and by_segment[0].people[0].area < by_segment[0].people[1].area
    assert np.count_nonzero(areas < spec.SMALLEST) == 1
    small = [person.area < spec.SMALLEST for person in by_segment[0].people]
    assert np.count_nonzero(small) == 2
    assert targets[0].contested > 0
    x, y, v = np.moveaxis(crowd.people[4].keypoints, -1, 0)
    outside = (v > 0) & ((x < 0) | (x >= SIZE) | (y < 0) | (y >= SIZE))
    assert 0 < outside.sum() < (v > 0).sum()
    assert not all(read.mask.all() for read in everywhere)  # regions
    assert any((a.mask < b.mask).any() for a, b in zip(crops, everywhere, strict=True)) == (
        crop is TURNED
    )
    owned = [len([at for at in spec.weighted_locations(targets[0]) if at[2] == s]) for s in (0, 1)]
    assert min(owned) > SAMPLES
    assert len(spec.sampled_locations(targets[2], SAMPLES)) < SAMPLES * len(spec.PARTS)


def test_the_numbers_are_those_of_the_recipe(config):
    """What the reading has written out, the library has in its configs."""
    settings = config.targets
    assert (settings.sigma, settings.background_weight) == (spec.SIGMA, spec.BACKGROUND)
    assert settings.min_area == spec.SMALLEST and settings.convention == "released"
    assert config.losses.smooth_l1_beta == spec.BETA
    assert skeletons.COCO.flip_order == spec.FLIPPED
    assert skeletons.COCO.parts(config.model.partition) == spec.PARTS
