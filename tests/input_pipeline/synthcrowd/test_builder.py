"""The synthetic crowd on disk: round trip, ground truth file, atomicity, fingerprint."""

import json
import pathlib

import cv2
import numpy as np
import pytest

from configs import demo
from input_pipeline.storage import splits
from input_pipeline.synthcrowd import builder, stream
from pinet_jax.errors import UserError

pytestmark = pytest.mark.slow

SIZE = 32
COUNTS = {"train": 4, "val": 2}


def tiny(folder, **changes):
    config = demo.get_config()
    config.dataset.data_dir = str(folder)
    config.synthcrowd.image_size = SIZE
    config.synthcrowd.people = (0, 3)
    config.synthcrowd.num_train, config.synthcrowd.num_val = COUNTS["train"], COUNTS["val"]
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    config = tiny(tmp_path_factory.mktemp("crowd"))
    return config, builder.ensure_prepared(config)


@pytest.fixture
def no_rendering(monkeypatch):
    def refuse(split, numbers):
        raise AssertionError("rendered again")

    monkeypatch.setattr(stream, "renderer", lambda config: refuse)


def scenes(config, split):
    drawn = stream.renderer(config)(split, np.arange(builder._CHUNK))
    return [type(drawn)(*(np.asarray(a)[row] for a in drawn)) for row in range(COUNTS[split])]


def through_jpeg(image):
    """RGB, as OpenCV (BGR) writes and reads it."""
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]


def test_examples_are_the_scenes(prepared):
    config, _ = prepared
    for split in stream.SPLITS:
        examples = splits.open_split(config, split)
        assert len(examples) == COUNTS[split]
        by_id = {examples[i].image_id: examples[i] for i in range(len(examples))}
        for number, scene in enumerate(scenes(config, split)):
            example, real = by_id[number], scene.area > 0
            np.testing.assert_array_equal(example.keypoints, scene.keypoints[real])
            np.testing.assert_array_equal(example.bbox, scene.boxes[real])
            np.testing.assert_array_equal(example.area, scene.area[real])
            np.testing.assert_array_equal(example.image, through_jpeg(scene.image))
            assert not example.ignore_mask.any()


def test_ground_truth_file_says_the_same_and_how_crowded_it_is(prepared):
    config, _ = prepared
    for split in stream.SPLITS:
        truth = json.loads(splits.annotations_path(config, split).read_text())
        examples = splits.open_split(config, split)
        assert {image["id"] for image in truth["images"]} == set(range(COUNTS[split]))
        for i in range(len(examples)):
            example = examples[i]
            mine = [a for a in truth["annotations"] if a["image_id"] == example.image_id]
            assert [a["id"] for a in mine] == example.ids.tolist()
            for annotation, keypoints in zip(mine, example.keypoints, strict=True):
                found = np.reshape(annotation["keypoints"], (-1, 3))
                np.testing.assert_allclose(found, keypoints, atol=1e-3)
                assert annotation["num_keypoints"] == np.sum(keypoints[:, 2] > 0)
        boxes = [examples[i].bbox for i in range(len(examples))]
        expected = builder.mean_pair_iou(boxes)
        assert truth["info"]["mean_pair_iou"] == pytest.approx(expected, abs=1e-3)


def test_is_not_rendered_twice(prepared, no_rendering):
    config, folder = prepared
    assert builder.ensure_prepared(config) == folder
    assert builder.annotations_path(config, "val").is_file()


@pytest.mark.parametrize("changes", [{"synthcrowd.pair_iou": 0.5}, {"seed": 3}])
def test_other_numbers_are_rendered_anew(prepared, no_rendering, changes):
    config, _ = prepared
    with pytest.raises(AssertionError, match="rendered again"):
        builder.ensure_prepared(tiny(config.dataset.data_dir, **changes))


def test_interrupted_rendering_does_not_look_complete(tmp_path, monkeypatch, prepared):
    _, whole = prepared
    config = tiny(tmp_path)
    example = builder._example

    def fail_at_the_last(scene, number):
        if number == 1 and len(written) == COUNTS["train"] + 1:
            raise KeyboardInterrupt
        written.append(number)
        return example(scene, number)

    written = []
    with monkeypatch.context() as patch:
        patch.setattr(builder, "_example", fail_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            builder.ensure_prepared(config)
    folder = builder.ensure_prepared(config)
    for split in stream.SPLITS:
        path = pathlib.Path("annotations") / f"person_keypoints_{split}.json"
        assert (folder / path).read_text() == (whole / path).read_text()
        assert len(builder.open_split(config, split)) == COUNTS[split]
    assert not list(folder.rglob("incomplete*"))


def test_persons_out_of_the_picture_are_masked():
    scene = stream.Scene(
        image=np.zeros((16, 16, 3), np.uint8),
        keypoints=np.zeros((2, 17, 3), np.float32),
        area=np.array([6.0, 0.0], np.float32),
        boxes=np.array([[2, 3, 1.5, 2], [0, 0, 0, 0]], np.float32),
    )
    example = builder._example(scene, 0)
    assert example["persons"] == []
    mask = builder.cv2.imdecode(np.frombuffer(example["ignore_mask"], np.uint8), -1)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 5, 2, 4)


def test_bad_requests_are_named(tmp_path):
    with pytest.raises(UserError, match="data_dir"):
        builder.ensure_prepared(tiny(""))
    with pytest.raises(UserError, match="split 'test'"):
        builder.open_split(tiny(tmp_path), "test")
