"""predict.py as a program: pictures, predictions.json, exit codes."""

import json
import pathlib
import subprocess

import numpy as np
import pytest
from PIL import Image

from pinet_jax.config import load_config, save_config
from pinet_jax.media.videos import open_video
from pinet_jax.methods.pinet import network
from pinet_jax.weights import checkpoints
from tests import programs, tiny

pytestmark = pytest.mark.slow

TINY = {
    **{"model.width": 4, "model.stem_width": 8, "model.bottlenecks": 1, "model.blocks": 1},
    **{"model.modules": (1, 1, 1), "model.conv_init": "he", "dtype": "float32"},
    **{"eval.input_size": 64, "eval.batch_size": 1, "eval.max_peaks": 5, "eval.flip": False},
    **{"eval.max_detections": 3, "compilation_cache": ""},
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A checkpoint of a tiny model with random weights."""
    folder = tmp_path_factory.mktemp("workdir")
    config = load_config("base", TINY)
    save_config(folder, config)
    with checkpoints.Checkpoints(folder, keep=1) as saved:
        saved.save({"step": np.array(1), **tiny.random_variables(network.build(config))})
    return folder


def predict(*arguments) -> subprocess.CompletedProcess:
    return programs.run("predict.py", *arguments)


def write_images(folder: pathlib.Path, *names: str) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(folder / name)


def write_difficult_images(folder: pathlib.Path) -> None:
    """What users' folders hold: seven good images of all kinds, three bad ones."""
    write_images(folder, "a.png", "a.bmp", "sub/e.png", "cut.jpg")
    pixels = np.asarray(Image.open(folder / "a.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(pixels).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels[:1, :1]).save(folder / "one.png")
    Image.fromarray(np.tile(pixels, (5, 150, 1))).save(folder / "panorama.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:2000])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")


GOOD = {
    **{"a.bmp": (80, 60), "a.png": (80, 60), "cmyk.jpg": (80, 60), "one.png": (1, 1)},
    **{"panorama.jpg": (12000, 300), "sub/e.png": (80, 60), "turned.jpg": (60, 80)},
}


def test_good_images_are_predicted_and_bad_ones_named(workdir, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    write_difficult_images(images)

    arguments = "--csv", "--min_score=-1", "--min_keypoint_score=-1"
    done = predict("--checkpoint", workdir, images, f"--out={out}", *arguments)

    assert done.returncode == 1, done.stderr
    assert "100% 10/10" in done.stderr
    *_, first, second, third = sorted(done.stderr.strip().splitlines()[-3:])
    assert "cut.jpg" in first and "truncated" in first
    assert "empty.jpg" in second and "the file is empty" in second
    assert "text.jpg" in third and "not a picture" in third

    names = ["a.png", "a_2.png", "cmyk.png", "e.png", "one.png", "panorama.png"]
    names += ["predictions.csv", "predictions.json", "turned.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert Image.open(out / "a.png").size == (720, 540)  # enlarged
    assert Image.open(out / "turned.png").size == (540, 720)  # upright

    written = json.loads((out / "predictions.json").read_text())
    files = {image["id"]: image["file_name"] for image in written["images"]}
    assert list(files.values()) == [str(images / name) for name in GOOD]
    sizes = [(image["width"], image["height"]) for image in written["images"]]
    assert sizes == list(GOOD.values())
    assert written["results"]
    for result in written["results"]:
        assert result["file_name"] == files[result["image_id"]]
        assert len(result["keypoints"]) == 51 and result["category_id"] == 1
    counts = [sum(r["image_id"] == i for r in written["results"]) for i in files]
    assert max(counts) <= 3
    rows = (out / "predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + len(written["results"])


def test_videos_are_drawn_and_how_people_were_found(workdir, tmp_path):
    """A GIF, and of everything the parts and the maps."""
    write_images(tmp_path, "a.png")
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)) for _ in range(5)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:], duration=40)
    out = tmp_path / "out"
    arguments = "--show_parts", "--heatmaps", "--max_frames=4", f"--out={out}"
    done = predict("--checkpoint", workdir, tmp_path / "a.png", tmp_path / "b.gif", *arguments)
    assert done.returncode == 0, done.stderr
    assert "b.gif" in done.stderr and "100% 4/4" in done.stderr
    for folder in (out, out / "parts", out / "heatmaps"):
        assert {"a.png", "b.mp4"} <= {path.name for path in folder.iterdir()}
        video = open_video(folder / "b.mp4")
        assert video.count == 4 and video.rate == 25
        height, width = next(video.frames()).shape[:2]
        assert np.allclose((width, height), Image.open(folder / "a.png").size, atol=1)
    written = json.loads((out / "predictions.json").read_text())
    assert [image.get("frame") for image in written["images"]] == [None, 0, 1, 2, 3]


def test_fields_of_the_checkpoints_config_are_overridden(workdir, tmp_path):
    write_images(tmp_path, "a.png")
    override = "--config.eval.peak_threshold=1e9"
    done = predict(
        "--checkpoint", workdir / "checkpoints/1", tmp_path / "a.png", "--out", tmp_path / "out",
        override,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/predictions.json").read_text())["results"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--checkpoint={workdir}", "{tmp}/a.png"), "--out is missing"),
        (("--out={tmp}/out", "{tmp}/a.png"), "--checkpoint is missing"),
        (("--checkpoint={tmp}", "--out={tmp}/out", "{tmp}/a.png"), "No checkpoint in"),
        (("--checkpoint={workdir}", "--out={tmp}/out"), "No images given"),
        (("--checkpoint={workdir}", "--out={tmp}/out", "{tmp}/b.png"), "No image at"),
        (("--checkpoint={workdir}", "--out={tmp}", "{tmp}/a.png"), "is one of the images"),
        (("--checkpoint={workdir}", "--out={tmp}/a.png", "{tmp}/a.png"), "Cannot write to the"),
        (("--checkpoint={workdir}", "--out=gs://b/out", "{tmp}/a.png"), "is a URL"),
        (("--checkpoint={workdir}", "--out={tmp}/out", "--webcam=99"), "no such camera"),
        (("--checkpoint={workdir}", "--out={tmp}/o", "--webcam=0", "{tmp}/a.png"), "either a"),
        (
            ("--checkpoint={workdir}", "--out={tmp}/o", "{tmp}/a.png", "--config.eval.flap=1"),
            "no field 'flap'",
        ),
        (
            ("--checkpoint={workdir}", "--out={tmp}/o", "{tmp}/a.png", "--config.dtype=float16"),
            "config.dtype: 'float16' is not one of bfloat16, float32.",
        ),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(workdir, tmp_path, arguments, words):
    write_images(tmp_path, "a.png")
    done = predict(*(argument.format(workdir=workdir, tmp=tmp_path) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1
