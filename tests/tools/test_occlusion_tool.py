"""tools/occlusion.py as a program."""

import json
import subprocess

import numpy as np
import pytest

from tests import programs
from tests.input_pipeline import fake_coco
from tests.paths import ROOT

CONFIG = f"--config={ROOT / 'configs/crowdpose.py'}"


def run(*arguments) -> subprocess.CompletedProcess:
    return programs.run("tools/occlusion.py", *arguments)


@pytest.fixture
def annotations(tmp_path):
    people = [fake_coco.annotation(v, 1, np.array([(5, 5, v)] * 14)) for v in (1, 2)]
    path = tmp_path / "people.json"
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": people}))
    return path


def test_it_prints_the_table_and_draws_it(annotations, tmp_path):
    out = tmp_path / "new" / "bars.png"
    done = run(annotations, CONFIG, f"--out={out}", "--config.compilation_cache=")
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["part-large", "3", "50.0", "50.0", "50.0", "0.0", "50.0", "0.0"] in rows
    assert "people.json: 2 persons" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["people.json", CONFIG], "--out"),
        ([CONFIG, "--out=a.png"], "Give one annotation file"),
        (["people.json", "--out=a.png"], "No config"),
        (["absent.json", CONFIG, "--out=a.png"], "Cannot read the annotations 'absent.json'"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1
