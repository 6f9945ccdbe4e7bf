"""tools/summary.py as a program."""

import subprocess

import pytest

from tests import programs, tiny
from tests.paths import ROOT


def run(*arguments) -> subprocess.CompletedProcess:
    return programs.run("tools/summary.py", *arguments)


def test_the_papers_model():
    done = run(f"--config={ROOT / 'configs/crowdpose.py'}", "--config.compilation_cache=")
    assert done.returncode == 0, done.stderr
    rows = {line[:9].strip(): line[9:].split() for line in done.stdout.splitlines()[3:]}
    assert rows["backbone"][0] == "29,305,536"
    assert rows["total"][:2] == ["31,683,301", "31.68"]
    assert "crowdpose keypoints" in done.stdout and "512 x 512" in done.stdout


def test_fields_and_sizes_can_be_set():
    done = run(f"--config={tiny.PATH}", "--config.model.refinement=False", "--size=64x96")
    assert done.returncode == 0, done.stderr
    assert "64 x 96 pixels" in done.stdout and "PR " not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "No config"),
        ([f"--config={tiny.PATH}", "--size=100"], "multiples of 32"),
        ([f"--config={tiny.PATH}", "--size=1x2x3"], "is no size"),
        ([f"--config={tiny.PATH}", "--size=64.5"], "is no size"),
        ([f"--config={tiny.PATH}", "word"], "'word' is no flag"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1
