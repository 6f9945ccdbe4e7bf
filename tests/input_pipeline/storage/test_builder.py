import io
import json
import pathlib

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from input_pipeline.datasets import layout
from input_pipeline.storage import builder as keypoints
from input_pipeline.storage import downloads, splits
from pinet_jax import skeletons
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.evaluation.ground_truth import read_truth
from tests.input_pipeline import fake_coco
from tests.pinet_jax.evaluation import annotation_cases


def make_config(folder: pathlib.Path, prepared_dir: pathlib.Path, **fields):
    overrides = {"dataset.data_dir": str(folder), "dataset.prepared_dir": str(prepared_dir)}
    return load_config("base", {**overrides, **fields})


@pytest.fixture
def folder(tmp_path):
    return fake_coco.write_fake_coco(tmp_path / "coco")


@pytest.fixture
def config(folder, tmp_path):
    return make_config(folder, tmp_path / "prepared")


def raw_annotations(config, split: str) -> pathlib.Path:
    folder = pathlib.Path(config.dataset.data_dir)
    return folder / fake_coco.ANNOTATIONS.format(split=split)


def prepared_dir(config, split: str) -> pathlib.Path:
    found = layout.find(config, downloads.module("coco").files(config, split))
    return downloads.automatic_dir(config, split, found)


def snapshot(folder: pathlib.Path) -> dict:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_round_trip_keeps_everything(folder, config):
    before = snapshot(folder)
    split = splits.open_split(config, "val")
    content = json.loads(raw_annotations(config, "val").read_text())
    assert json.loads(splits.annotations_path(config, "val").read_text()) == content
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
    split = splits.open_split(config, "val")
    for record in split._records:
        path = folder / "val2017" / record["file_name"].decode()
        assert record["image"] == path.read_bytes()


def test_index_tells_what_the_examples_hold(config):
    split = splits.open_split(config, "val")
    for index in (split.index, splits.open_split(config, "val").index):
        for number in range(len(split)):
            example = split[number]
            assert index.image_id[number] == example.image_id
            assert (index.height[number], index.width[number]) == example.image.shape[:2]
            assert index.num_keypoints[number] == (example.keypoints[..., 2] > 0).sum()


def test_a_crowd_is_masked_unless_it_has_keypoints(folder, config):
    """One with keypoints is trained on, as the released code has it; neither is scored."""
    image = {"id": 2000, "file_name": "000000002000.jpg"}
    columns = [
        {"size": [60, 90], "counts": [60 * x, 60, (89 - x) * 60]} for x in (0, 1)
    ]  # the first and the second of the image
    crowds = [
        fake_coco.annotation(1, 2000, np.zeros((17, 3)), iscrowd=1, segmentation=columns[0]),
        fake_coco.annotation(2, 2000, np.ones((17, 3)), iscrowd=1, segmentation=columns[1]),
    ]
    fake_coco.write_annotations(folder, "val", [image], crowds)
    example = splits.open_split(config, "val")[0]
    assert example.ids.tolist() == [2]
    assert example.ignore_mask[:, 0].all()
    assert not example.ignore_mask[:, 1:].any()
    summary = splits.annotations_path(config, "val").parent / "summary.json"
    counts = json.loads(summary.read_text())["counts"]
    assert (counts["persons"], counts["persons_scored"], counts["masked"]) == (1, 0, 1)


def test_files_of_an_old_format_are_made_anew(config, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "FORMAT_VERSION", "1.1.0")
        patch.setattr(keypoints.Keypoints, "VERSION", keypoints.tfds.core.Version("1.1.0"))
        old = prepared_dir(config, "val")
        splits.open_split(config, "val")
    assert list(old.glob("keypoints/1.1.0/annotations.json"))
    new = prepared_dir(config, "val")
    assert new != old
    truth = splits.annotations_path(config, "val")
    assert truth == new / "keypoints" / keypoints.FORMAT_VERSION / "annotations.json"
    assert truth.is_file()


def test_prepared_once_and_anew_for_a_changed_download(folder, config, monkeypatch):
    first = prepared_dir(config, "val")
    splits.open_split(config, "val")
    with monkeypatch.context() as patch:
        patch.setattr(keypoints, "read_image", lambda *_: pytest.fail("prepared twice"))
        splits.open_split(config, "val")
    path = raw_annotations(config, "val")
    content = json.loads(path.read_text())
    one = {**content, "images": content["images"][:1], "annotations": content["annotations"][:1]}
    path.write_text(json.dumps(one))
    assert prepared_dir(config, "val") != first
    assert len(splits.open_split(config, "val")) == 1


def crowdpose_person(number: int) -> dict:
    """As CrowdPose has them: no area, and num_keypoints without head and neck."""
    keypoints = np.stack([np.arange(14), np.arange(14), np.full(14, 2)], axis=-1)
    person = fake_coco.annotation(number, 2000, keypoints, num_keypoints=12)
    return {name: value for name, value in person.items() if name != "area"}


def test_a_missing_area_is_a_part_of_the_box(folder, tmp_path):
    image = {"id": 2000, "file_name": "000000002000.jpg", "crowdIndex": 0.33}
    path = fake_coco.write_annotations(folder, "val", [image], [crowdpose_person(1)], 14)
    config = make_config(folder, tmp_path / "p", **{"dataset.skeleton": "crowdpose"})
    example = splits.open_split(config, "val")[0]
    assert example.bbox.tolist() == [[0, 0, 14, 14]]
    np.testing.assert_allclose(example.area, 0.53 * 14 * 14)
    truth = json.loads(splits.annotations_path(config, "val").read_text())
    assert truth["images"][0]["crowdIndex"] == 0.33
    assert truth["annotations"][0]["num_keypoints"] == 12
    assert "area" not in truth["annotations"][0]  # scoring has its own protocol for that
    assert truth["categories"] == json.loads(path.read_text())["categories"]


def test_sizes_are_those_of_the_pixels(folder, config):
    """Old copies of CrowdPose's JSON have width and height the wrong way round."""
    path = raw_annotations(config, "val")
    content = json.loads(path.read_text())
    for image in content["images"][:3]:
        image["height"], image["width"] = image["width"], image["height"]
    path.write_text(json.dumps(content))
    split = splits.open_split(config, "val")
    sizes = {
        example.image_id: example.image.shape[:2] for example in map(split.__getitem__, range(4))
    }
    assert sizes == {2000: (60, 90), 2001: (90, 60), 2002: (60, 90), 2003: (90, 60)}
    truth = splits.annotations_path(config, "val")
    told = {i["id"]: (i["height"], i["width"]) for i in json.loads(truth.read_text())["images"]}
    assert told == sizes
    assert json.loads((truth.parent / "summary.json").read_text())["counts"]["sizes_differ"] == 3


def prepared_from(root: pathlib.Path, change) -> tuple[list, tuple, dict]:
    """Examples, persons of the ground truth and counts, of `annotation_cases` changed."""
    folder = root / "coco"
    (folder / "val2017").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for i in (1, 2):
        cv2.imwrite(str(folder / f"val2017/{i}.jpg"), np.full((300, 280, 3), 40 * i, np.uint8))
    annotation_cases.write(folder / fake_coco.ANNOTATIONS.format(split="val"), change)
    config = make_config(folder, root / "prepared")
    split = splits.open_split(config, "val")
    path = splits.annotations_path(config, "val")
    counts = json.loads((path.parent / "summary.json").read_text())["counts"]
    examples = sorted((split[0], split[1]), key=lambda example: example.image_id)
    return examples, read_truth(path, skeletons.COCO).persons, counts


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return prepared_from(tmp_path_factory.mktemp("plain"), lambda _: None)


@pytest.mark.parametrize("quirk", annotation_cases.QUIRKS)
def test_the_same_is_prepared_from_every_form_of_the_annotations(plain, tmp_path, quirk):
    examples, truth, counts = prepared_from(tmp_path, annotation_cases.QUIRKS[quirk])
    for example, expected in zip(examples, plain[0], strict=True):
        for field in ("ids", "bbox", "area", "ignore_mask"):
            np.testing.assert_array_equal(getattr(example, field), getattr(expected, field))
        seen = expected.keypoints[..., 2] > 0
        np.testing.assert_array_equal(example.keypoints[seen], expected.keypoints[seen])
        np.testing.assert_array_equal(example.keypoints[..., 2], expected.keypoints[..., 2])
        assert np.isfinite(example.keypoints).all()
    for person, expected in zip(truth, plain[1], strict=True):
        for field in ("id", "image_id", "iscrowd", "num_keypoints", "area", "bbox"):
            assert person[field] == expected[field]
    assert counts == plain[2] | {"sizes_differ": 2 if "swapped" in quirk else 0}


def jpeg(pixels: np.ndarray, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def turned(pixels: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be shown after a quarter turn
    return jpeg(pixels, exif=exif)


@pytest.mark.parametrize(
    "encode",
    [jpeg, png, turned, lambda pixels: jpeg(pixels, "L"), lambda pixels: jpeg(pixels, "CMYK")],
    ids=["JPEG", "PNG named jpg", "EXIF orientation", "grey", "CMYK"],
)
def test_every_kind_of_picture_is_read_as_its_annotations_are(folder, config, encode):
    """COCO's train2017 has greys and a PNG named .jpg; boxes are of the pixels as they lie."""
    ramp = np.linspace(40, 200, 90).astype(np.uint8)
    pixels = np.broadcast_to(ramp[None, :, None], (60, 90, 3)).copy()
    (folder / "val2017" / "000000002000.jpg").write_bytes(encode(pixels))
    split = splits.open_split(config, "val")
    (example,) = (split[n] for n in range(len(split)) if split[n].image_id == 2000)
    assert example.image.shape == (60, 90, 3) and example.ignore_mask.shape == (60, 90)
    assert np.abs(example.image.astype(int) - pixels).max() <= 4


def test_the_summary_counts_what_was_read(config):
    path = splits.annotations_path(config, "val").parent / "summary.json"
    summary = json.loads(path.read_text())
    content = json.loads(raw_annotations(config, "val").read_text())
    persons = [a for a in content["annotations"] if a["num_keypoints"]]
    assert summary["counts"] == {
        "images": 4,
        "images_with_persons": 3,
        "persons": len(persons),
        "persons_scored": len(persons),
        "keypoints": 17 * len(persons),
        "masked": 4,
        "sizes_differ": 0,
    }
    assert summary["skipped"] == {} and summary["skipped_because"] == []


def test_an_interrupted_preparation_starts_again(config, monkeypatch):
    read = keypoints.read_image

    def interrupted(path):
        if path.name == "000000002002.jpg":
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(keypoints, "read_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            splits.open_split(config, "val")
    root = prepared_dir(config, "val")
    assert not list(root.rglob("dataset_info.json"))
    # What a killed process leaves behind:
    killed = root / "keypoints" / f"incomplete.ABCDEF_{keypoints.FORMAT_VERSION}"
    killed.mkdir(parents=True)
    (killed / "keypoints-val.array_record-00000-of-00001").write_bytes(b"half")
    assert len(splits.open_split(config, "val")) == 4
    assert not killed.exists()


def test_a_missing_split_matters_only_when_asked_for(folder, config):
    (folder / "annotations" / "person_keypoints_train2017.json").unlink()
    assert len(splits.open_split(config, "val")) == 4
    with pytest.raises(UserError, match=r"person_keypoints_train2017.json is missing.*data_dir"):
        splits.open_split(config, "train")


@pytest.mark.parametrize("content", [b"", b"not a jpeg", "truncated", None])
def test_an_unreadable_image_is_named_or_skipped(folder, tmp_path, config, content, caplog):
    path = folder / "val2017" / "000000002001.jpg"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40] if content == "truncated" else content)
    with pytest.raises(UserError, match=r"000000002001.jpg.*skip_invalid=True\.$") as caught:
        splits.open_split(config, "val")
    assert "\n" not in str(caught.value)

    skipping = make_config(folder, tmp_path / "prepared", **{"dataset.skip_invalid": True})
    with caplog.at_level("WARNING"):
        split = splits.open_split(skipping, "val")
    assert sorted(split.index.image_id) == [2000, 2002, 2003]
    assert "1 invalid (1 unreadable image)" in caplog.text
    assert "000000002001.jpg" in caplog.text
    # What is scored is what is there.
    truth = json.loads(splits.annotations_path(skipping, "val").read_text())
    assert sorted(image["id"] for image in truth["images"]) == [2000, 2002, 2003]
    assert {person["image_id"] for person in truth["annotations"]} == {2000, 2002, 2003}
    with pytest.raises(UserError):  # without the flag the shortened dataset is not taken
        splits.open_split(config, "val")


def test_bad_folders(folder, tmp_path):
    with pytest.raises(UserError, match="data_dir is empty"):
        splits.open_split(load_config("base"), "val")
    with pytest.raises(UserError, match="is not a folder"):
        splits.open_split(make_config(tmp_path / "nowhere", tmp_path / "p"), "val")
    with pytest.raises(UserError, match=r"prepared_dir.*inside the download"):
        splits.open_split(make_config(folder, folder / "prepared"), "val")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write.*--config.dataset.prepared_dir"):
        splits.open_split(make_config(folder, tmp_path / "file"), "val")
    (folder / "val2017").rename(folder / "val")
    with pytest.raises(UserError, match=r"image folder .*val2017 is missing"):
        splits.open_split(make_config(folder, tmp_path / "p"), "val")


def test_nothing_but_progress_reaches_the_terminal(config, capfd):
    splits.open_split(config, "val")
    out, err = capfd.readouterr()
    assert out == ""
    assert all("prepare val" in line for line in err.splitlines())
