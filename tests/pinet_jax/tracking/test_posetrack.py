"""PoseTrack files: what is read of them, what is refused, and that ours come back as written."""

import json

import numpy as np
import pytest

from pinet_jax.errors import UserError
from pinet_jax.skeletons import COCO
from pinet_jax.tracking import posetrack
from pinet_jax.tracking.frames import Tracked


def people(number, count=2):
    random = np.random.default_rng(number)
    keypoints = random.uniform(5, 60, (count, 17, 2))
    scores = random.uniform(0.1, 1, (count, 17)).round(4)
    scores[:, 3] = 0
    return Tracked(keypoints, scores, np.arange(count) + 1)


def written(tmp_path, frames):
    images = [{"file_name": f"{i}.jpg", "width": 64, "height": 64} for i in range(len(frames))]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(posetrack.write_json(images, frames, COCO)))
    return path


def test_what_is_written_is_read(tmp_path):
    frames = [people(0), people(1, 0), people(2, 3)]
    video = posetrack.read(written(tmp_path, frames))
    assert video.name == "a" and video.keypoints == COCO.keypoints
    assert [frame.file_name for frame in video.frames] == ["0.jpg", "1.jpg", "2.jpg"]
    for frame, wanted in zip(video.frames, frames, strict=True):
        assert frame.labelled and not frame.regions
        assert frame.ids.tolist() == wanted.ids.tolist()
        assert (frame.there == (wanted.keypoint_scores > 0)).all()
        there = frame.there[..., None]
        np.testing.assert_allclose(frame.keypoints, wanted.keypoints * there, atol=0.006)
        np.testing.assert_allclose(frame.scores, wanted.keypoint_scores, atol=1e-4)


def test_a_persons_area_is_the_files_or_that_of_its_box(tmp_path):
    path = written(tmp_path, [people(0)])
    content = json.loads(path.read_text())
    content["annotations"][0]["area"] = 77.0
    path.write_text(json.dumps(content))
    width, height = content["annotations"][1]["bbox"][2:]
    areas = posetrack.read(path).frames[0].areas
    np.testing.assert_allclose(areas, [77.0, 0.53 * width * height])


def test_one_polygon_or_several(tmp_path):
    path = written(tmp_path, [people(0), people(1)])
    content = json.loads(path.read_text())
    content["images"][0] |= {"ignore_regions_x": [0, 9, 9], "ignore_regions_y": [0, 0, 9]}
    content["images"][1] |= {
        "ignore_regions_x": [[0, 9, 9], [1, 2, 3]],
        "ignore_regions_y": [[0, 0, 9], [1, 2, 1]],
    }
    path.write_text(json.dumps(content))
    assert [len(frame.regions) for frame in posetrack.read(path).frames] == [1, 2]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.pop("images"), "not of the PoseTrack format"),
        (lambda c: c.update(categories=[{}]), "'categories' has no keypoints"),
        (lambda c: c["images"][1].update(id=0), "two images have the id 0"),
        (lambda c: c["images"][1].pop("file_name"), "image 1 has no 'id' or no 'file_name'"),
        (lambda c: c["annotations"][1].pop("track_id"), "annotation 1 has no whole .* 'track_id'"),
        (lambda c: c["annotations"][0].update(image_id=9), "of image 9, which 'images' does not"),
        (lambda c: c["annotations"][0]["keypoints"].pop(), "has 50 numbers in 'keypoints'"),
        (
            lambda c: c["annotations"][0]["keypoints"].__setitem__(4, "x"),
            "value in 'keypoints' that is not a finite",
        ),
        (lambda c: c["annotations"][0]["scores"].pop(), "has 16 numbers in 'scores' and not 17"),
        (lambda c: c["annotations"][1].update(track_id=1), "track 1 stands twice"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, edit, words):
    path = written(tmp_path, [people(0), people(1)])
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=words) as error:
        posetrack.read(path)
    assert str(path) in str(error.value)


def test_files_that_are_absent_or_cut(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read the tracks .*none.json"):
        posetrack.read(tmp_path / "none.json")
    path = written(tmp_path, [people(0)])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="not a whole JSON file"):
        posetrack.read(path)
