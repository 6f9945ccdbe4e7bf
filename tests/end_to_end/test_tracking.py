"""Tracking as a user does it: render videos, track them with a model, score the tracks."""

import json

import numpy as np
import pytest

from pinet_jax.config import save_config
from pinet_jax.methods.pinet import network
from pinet_jax.weights import checkpoints
from tests import programs, tiny

pytestmark = pytest.mark.slow

CLIPS = ("walk_00", "crossing_00")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Small synthetic videos of two kinds, and what was printed of them."""
    folder = tmp_path_factory.mktemp("videos")
    sizes = {"image_size": 64, "frames": 6, "num_videos": 1}
    changes = [f"--config.synthvideo.{name}={value}" for name, value in sizes.items()]
    arguments = "--kinds=walk,crossing", "--config.compilation_cache=", *changes
    return folder, programs.output_of("tools/synthvideo.py", "--out", folder, *arguments)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A checkpoint of a tiny model that sees people everywhere."""
    folder = tmp_path_factory.mktemp("workdir")
    config = tiny.config(**{"eval.flip": False, "tracking.method": "oks"})
    save_config(folder, config)
    with checkpoints.Checkpoints(folder, keep=1) as saved:
        variables = tiny.random_variables(network.build(config))
        saved.save({"step": np.array(1), **variables})
    return folder


def test_videos_are_rendered_with_their_figures(videos):
    folder, printed = videos
    assert "OKS a frame later" in printed and "crossing" in printed
    for clip in CLIPS:
        assert len(list((folder / "frames" / clip).iterdir())) == 6
        truth = json.loads((folder / "annotations" / f"{clip}.json").read_text())
        assert len(truth["images"]) == 6 and truth["annotations"]


def test_videos_are_tracked_and_the_tracks_scored(videos, workdir, tmp_path):
    folder, _ = videos
    all_of_it = ("final_score=0.0", "valid_score=0.0", "min_length=1")
    done = programs.run(
        *("predict.py", "--checkpoint", workdir, folder / "frames", "--out", tmp_path, "--track"),
        *(f"--config.tracking.{change}" for change in all_of_it),
    )
    assert done.returncode == 0, done.stderr
    assert "walk_00: 100% 6/6" in done.stderr
    for clip in CLIPS:
        tracks = json.loads((tmp_path / f"{clip}_tracks.json").read_text())
        assert len(tracks["images"]) == 6 and tracks["annotations"]
        assert (tmp_path / f"{clip}.mp4").exists()
    printed = programs.output_of(
        *("eval.py", "--tracks", tmp_path, "--annotations", folder / "annotations"),
        *("--out", tmp_path / "scores"),
    )
    assert "IDF1" in printed and "walk_00" in printed
    assert {p.name for p in (tmp_path / "scores").iterdir()} == {"metrics.json", "report.html"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tracks=here",), "give the folder of the ground truth as --annotations"),
        (("--tracks=here", "--results=there"), "one of them"),
        (("--tracks=here", "--annotations=nowhere"), "no JSON file in the folder 'nowhere'"),
    ],
)
def test_mistakes_end_with_one_sentence(arguments, words):
    done = programs.run("eval.py", *arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and words in done.stderr
