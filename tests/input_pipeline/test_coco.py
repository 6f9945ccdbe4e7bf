import json
import pathlib

import cv2
import numpy as np
import pytest

from input_pipeline import coco, prepared
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from tests.input_pipeline import fake_coco

REAL = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data" / "coco"


def make_config(folder: pathlib.Path, prepared_dir: pathlib.Path, **fields):
    overrides = {"dataset.data_dir": str(folder), "dataset.prepared_dir": str(prepared_dir)}
    return load_config("base", {**overrides, **fields})


@pytest.fixture
def folder(tmp_path):
    return fake_coco.write_fake_coco(tmp_path / "coco")


@pytest.fixture
def config(folder, tmp_path):
    return make_config(folder, tmp_path / "prepared")


def snapshot(folder: pathlib.Path) -> dict:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_round_trip_keeps_everything(folder, config):
    before = snapshot(folder)
    split = coco.open_split(config, "val")
    content = json.loads(coco.annotations_path(config, "val").read_text())
    examples = {example.image_id: example for example in map(split.__getitem__, range(len(split)))}
    assert set(examples) == {image["id"] for image in content["images"]}
    for image in content["images"]:
        example = examples[image["id"]]
        persons = [
            a for a in content["annotations"] if a["image_id"] == image["id"] and a["num_keypoints"]
        ]
        pixels = cv2.imread(str(folder / "val2017" / image["file_name"]))[..., ::-1]
        np.testing.assert_array_equal(example.image, pixels)
        assert example.file_name == image["file_name"]
        assert example.ids.tolist() == [a["id"] for a in persons]
        np.testing.assert_array_equal(
            example.keypoints, np.reshape([a["keypoints"] for a in persons], (-1, 17, 3))
        )
        np.testing.assert_array_equal(
            example.bbox, np.reshape([a["bbox"] for a in persons], (-1, 4))
        )
        np.testing.assert_array_equal(example.area, [a["area"] for a in persons])
        expected_mask = np.zeros(pixels.shape[:2])
        expected_mask[2:12, 2:12] = 255
        np.testing.assert_array_equal(example.ignore_mask, expected_mask)
    assert snapshot(folder) == before


def test_jpeg_bytes_are_stored_as_they_are(folder, config):
    split = coco.open_split(config, "val")
    for record in split._records:
        path = folder / "val2017" / record["file_name"].decode()
        assert record["image"] == path.read_bytes()


def test_index_tells_what_the_examples_hold(config):
    split = coco.open_split(config, "val")
    for index in (split.index, coco.open_split(config, "val").index):
        for number in range(len(split)):
            example = split[number]
            assert index.image_id[number] == example.image_id
            assert (index.height[number], index.width[number]) == example.image.shape[:2]
            assert index.num_keypoints[number] == (example.keypoints[..., 2] > 0).sum()


def test_crowds_are_masked_and_never_persons(folder, config):
    keypoints = np.ones((17, 3))
    image = {"id": 2000, "file_name": "000000002000.jpg"}
    crowd = fake_coco.annotation(
        1,
        2000,
        keypoints,
        iscrowd=1,
        segmentation={"size": [60, 90], "counts": [0, 60, 59 * 90 + 30]},
    )
    fake_coco.write_annotations(folder, "val", [image], [crowd])
    example = coco.open_split(config, "val")[0]
    assert len(example.keypoints) == 0
    assert example.ignore_mask[:, 0].all()
    assert not example.ignore_mask[:, 1:].any()


def test_prepared_once_and_anew_for_a_changed_download(folder, config, monkeypatch):
    first = coco.prepared_dir(config, "val")
    coco.open_split(config, "val")
    with monkeypatch.context() as patch:
        patch.setattr(coco, "read_annotations", lambda *_: pytest.fail("prepared twice"))
        coco.open_split(config, "val")
    path = coco.annotations_path(config, "val")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "images": content["images"][:1]}))
    assert coco.prepared_dir(config, "val") != first
    assert len(coco.open_split(config, "val")) == 1


def test_an_interrupted_preparation_starts_again(config, monkeypatch):
    read = coco.read_image

    def interrupted(path):
        if path.name == "000000002002.jpg":
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(coco, "read_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            coco.open_split(config, "val")
    root = coco.prepared_dir(config, "val")
    assert not list(root.rglob("dataset_info.json"))
    # What a killed process leaves behind:
    killed = root / "coco_keypoints" / "incomplete.ABCDEF_1.0.0"
    killed.mkdir(parents=True)
    (killed / "coco_keypoints-val.array_record-00000-of-00001").write_bytes(b"half")
    assert len(coco.open_split(config, "val")) == 4
    assert not killed.exists()


def test_a_missing_split_matters_only_when_asked_for(folder, config):
    (folder / "annotations" / "person_keypoints_train2017.json").unlink()
    assert len(coco.open_split(config, "val")) == 4
    with pytest.raises(UserError, match=r"person_keypoints_train2017.json is missing.*data_dir"):
        coco.open_split(config, "train")


@pytest.mark.parametrize("content", [b"", b"not a jpeg", "truncated", None])
def test_an_unreadable_image_is_named_or_skipped(folder, tmp_path, config, content, caplog):
    path = folder / "val2017" / "000000002001.jpg"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40] if content == "truncated" else content)
    with pytest.raises(UserError, match=r"000000002001.jpg.*skip_invalid=True\.$") as caught:
        coco.open_split(config, "val")
    assert "\n" not in str(caught.value)

    skipping = make_config(folder, tmp_path / "prepared", **{"dataset.skip_invalid": True})
    with caplog.at_level("WARNING"):
        split = coco.open_split(skipping, "val")
    assert sorted(split.index.image_id) == [2000, 2002, 2003]
    assert "1 invalid" in caplog.text
    assert "000000002001.jpg" in caplog.text
    with pytest.raises(UserError):  # without the flag the shortened dataset is not taken
        coco.open_split(config, "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "not a complete JSON file"),
        ("[]", "no 'images' and 'annotations'"),
        ('{"images": []}', "no 'images' and 'annotations'"),
        ('{"images": [{"id": 1}], "annotations": []}', "image without 'file_name'"),
        ('{"images": [], "annotations": []}', "lists no readable image"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], '
            '"annotations": []}',
            "lists an image id twice",
        ),
    ],
)
def test_a_bad_annotation_file_is_named(config, text, message):
    path = coco.annotations_path(config, "val")
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        coco.open_split(config, "val")
    assert str(path) in str(caught.value)


def test_annotations_without_keypoints_or_of_another_skeleton(folder, config):
    path = coco.annotations_path(config, "val")
    content = json.loads(path.read_text())
    boxes = [{k: v for k, v in a.items() if k != "keypoints"} for a in content["annotations"]]
    path.write_text(json.dumps({**content, "annotations": boxes}))
    with pytest.raises(UserError, match=r"without 'keypoints'.*person_keypoints"):
        coco.open_split(config, "val")

    keypoints = np.ones((14, 3))
    image = {"id": 2000, "file_name": "000000002000.jpg"}
    annotation = fake_coco.annotation(1, 2000, keypoints)
    fake_coco.write_annotations(folder, "val", [image], [annotation])
    with pytest.raises(UserError, match=r"42 numbers.*--config.dataset.skeleton"):
        coco.open_split(config, "val")


def test_bad_folders(folder, tmp_path):
    with pytest.raises(UserError, match="data_dir is empty"):
        coco.open_split(load_config("base"), "val")
    with pytest.raises(UserError, match="is not a folder"):
        coco.open_split(make_config(tmp_path / "nowhere", tmp_path / "p"), "val")
    with pytest.raises(UserError, match=r"prepared_dir.*inside the download"):
        coco.open_split(make_config(folder, folder / "prepared"), "val")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write.*--config.dataset.prepared_dir"):
        coco.open_split(make_config(folder, tmp_path / "file"), "val")
    (folder / "val2017").rename(folder / "val")
    with pytest.raises(UserError, match=r"image folder .*val2017 is missing"):
        coco.open_split(make_config(folder, tmp_path / "p"), "val")


def test_nothing_but_progress_reaches_the_terminal(config, capfd):
    coco.open_split(config, "val")
    out, err = capfd.readouterr()
    assert out == ""
    assert all("prepare val" in line for line in err.splitlines())


@pytest.mark.skipif(not REAL.is_dir(), reason="the real COCO sample is not there")
@pytest.mark.parametrize(("split", "images", "persons"), [("train", 80, 86), ("val", 111, 180)])
def test_the_real_sample_is_read_whole(tmp_path, split, images, persons):
    examples = coco.open_split(make_config(REAL, tmp_path / "prepared"), split)
    assert isinstance(examples, prepared.PreparedSplit)
    assert len(examples) == images
    assert sum(len(examples[n].keypoints) for n in range(images)) == persons
