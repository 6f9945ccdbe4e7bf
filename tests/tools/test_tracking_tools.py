"""The study and the picture of tracking, on the smallest videos."""

import json

import pytest
from PIL import Image

from tests import programs

pytestmark = pytest.mark.slow

SMALL = (
    *("--config.synthvideo.image_size=64", "--config.synthvideo.frames=5"),
    "--config.compilation_cache=",
)


def test_the_study_scores_every_method_and_max_age(tmp_path):
    printed = programs.output_of(
        *("tools/tracking_study.py", "--kinds=walk", "--methods=oks,flow", "--max_ages=0,3"),
        *("--videos=2", f"--out={tmp_path / 'scores.json'}", *SMALL),
    )
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {f"walk {method} {age}" for method in ("oks", "flow") for age in (0, 3)}
    for score in scores.values():
        assert score["TP"] + score["FN"] > 0 and score["MOTA"] <= 1
    assert printed.count("walk") == 8  # as they come, and all of them at the end


def test_the_picture_moves(tmp_path):
    path = tmp_path / "a.gif"
    method = "--config.tracking.method=oks"
    programs.output_of("tools/tracking_picture.py", f"--out={path}", method, *SMALL)
    with Image.open(path) as picture:
        assert picture.size == (320, 320) and picture.n_frames == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tools/tracking_study.py", "--kinds=swim"), "no kind 'swim'"),
        (("tools/tracking_study.py", "--max_ages=x"), "--max_ages: give whole numbers"),
        (("tools/tracking_picture.py",), "Give --out=FILE.gif"),
        (("tools/synthvideo.py",), "Give --out=DIR"),
    ],
)
def test_mistakes_end_with_one_sentence(arguments, words):
    done = programs.run(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1
