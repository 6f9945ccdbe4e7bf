"""tools/browse_dataset.py as a program."""

import subprocess

import pytest
from PIL import Image

from tests import programs, tiny
from tests.input_pipeline import fake_coco

CONFIG = f"--config={tiny.PATH}"


def run(*arguments) -> subprocess.CompletedProcess:
    return programs.run("tools/browse_dataset.py", *arguments)


def test_a_split_on_disk(tmp_path):
    fake_coco.write_fake_coco(tmp_path / "coco", num_images=3)
    out = tmp_path / "pictures" / "grid.png"
    flags = (
        *(CONFIG, f"--out={out}", "--split=val", "--count=2", "--config.dataset.name=coco"),
        f"--config.dataset.data_dir={tmp_path / 'coco'}",
        f"--config.dataset.prepared_dir={tmp_path / 'prepared'}",
    )
    done = run(*flags, "--seed=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"wrote {out}: 2 samples of coco")
    with Image.open(out) as image:
        first = image.convert("RGB").tobytes()
        assert image.width > image.height
    done = run(*flags, "--seed=2")
    assert done.returncode == 0, done.stderr
    with Image.open(out) as image:
        assert image.convert("RGB").tobytes() != first


def test_the_stream(tmp_path):
    out = tmp_path / "grid.png"
    done = run(CONFIG, f"--out={out}", "--count=1")
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([CONFIG], "--out"),
        (["--out=a.png"], "No config"),
        ([CONFIG, "--out=a.png", "other.png"], "no other file"),
        ([CONFIG, "--out=a.png", "--count=0"], "count"),
        ([CONFIG, "--out=a.png", "--split=val"], "the stream has no splits"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1
