"""The program that prepares a dataset."""

import json

import pytest
from absl import flags
from absl.testing import flagsaver

from input_pipeline import prepare
from pinet_jax.errors import UserError
from tests import programs
from tests.input_pipeline import fake_coco

pytestmark = pytest.mark.slow

CUSTOM = """
from configs import base

def get_config():
    config = base.get_config()
    config.dataset.name = "custom"
    config.dataset.annotations = "{split}.json"
    config.dataset.images = "photos"
    config.dataset.eval_split = "test"
    return config
"""


def run_prepare(*arguments):
    return programs.run("-m", "input_pipeline.prepare", *arguments)


def test_a_dataset_is_prepared_and_its_summary_printed(tmp_path):
    raw = fake_coco.write_fake_coco(
        tmp_path / "raw",
        splits=("train", "test"),
        annotation_file="{split}.json",
        image_folder="photos",
    )
    path = raw / "test.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["category_id"] = 3  # somebody with keypoints
    path.write_text(json.dumps(content))
    (tmp_path / "mine.py").write_text(CUSTOM)
    arguments = ("custom", f"--config={tmp_path / 'mine.py'}", "--raw", raw, "--data_dir")

    stopped = run_prepare(*arguments, tmp_path / "out")
    assert stopped.returncode == 2
    *_, last = stopped.stderr.splitlines()
    assert last.startswith(f"error: {path}: annotation 2 is of category 3")

    done = run_prepare(*arguments, tmp_path / "out", "--splits=test", "--skip_invalid")
    assert done.returncode == 0, done.stderr
    rows = {line[:34].strip(): line[34:].split() for line in done.stdout.splitlines()[1:]}
    assert rows[""] == ["test"]
    assert rows["images"] == ["4"] and rows["persons with keypoints"] == ["5"]
    assert rows["skipped: not a person"] == ["1"]
    assert "prepare test" in done.stderr
    truth = next((tmp_path / "out/test").rglob("annotations.json")).read_text()
    assert 2 not in [person["id"] for person in json.loads(truth)["annotations"]]


@pytest.fixture
def flag_values():
    """Those of the program, set back afterwards."""
    with flagsaver.flagsaver():
        flags.FLAGS.mark_as_parsed()
        yield flags.FLAGS


@pytest.mark.parametrize(
    ("values", "name", "words"),
    [
        ({"raw": "x"}, "cocoo", "Name one dataset of coco, ochuman, crowdpose, custom"),
        ({}, "coco", "--raw is missing"),
        ({"raw": "x"}, "coco", "--data_dir is missing"),
        ({"raw": "x"}, "custom", "custom needs --config"),
        ({"raw": "x", "data_dir": "y"}, "coco", "data_dir x is not a folder"),
    ],
)
def test_mistakes_end_with_one_sentence(flag_values, values, name, words):
    for flag, value in values.items():
        setattr(flag_values, flag, value)
    with pytest.raises(UserError, match=words):
        prepare.main(["prepare", name])
