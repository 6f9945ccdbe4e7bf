import csv
import json

import numpy as np
import pytest
from pycocotools.coco import COCO as CocoTools

from pinet_jax.errors import UserError
from pinet_jax.inference.fusion import People
from pinet_jax.media.predictions import PredictionFiles
from pinet_jax.skeletons import COCO, CROWDPOSE


def people(count: int, seed: int = 0, keypoints: int = 17) -> People:
    rng = np.random.default_rng(seed)
    return People(
        keypoints=rng.uniform(0, 12000, (count, keypoints, 2)).astype(np.float32),
        keypoint_scores=rng.random((count, keypoints), np.float32),
        scores=np.sort(rng.random(count, np.float32))[::-1],
        valid=np.ones(count, bool),
    )


def image(image_id: int, **more) -> dict:
    return {"id": image_id, "file_name": f"{image_id},a.jpg", "width": 64, "height": 48, **more}


FOUND = {3: people(2, 3), 1: people(0), 2: people(4, 2)}


@pytest.fixture
def written(tmp_path):
    """Images added out of order, one of them a video's frame."""
    with PredictionFiles(tmp_path, COCO, max_detections=3, with_csv=True) as files:
        files.videos.append({"id": 1, "file_name": "3,a.jpg"})
        files.add(image(3, video_id=1, frame=7), FOUND[3])
        files.add(image(1), FOUND[1])
        files.add(image(2), FOUND[2])
        assert not (tmp_path / "predictions.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "predictions.csv", "predictions.json",
    ]  # fmt: skip
    return tmp_path


def test_the_json_holds_everything_in_the_order_of_ids(written):
    content = json.loads((written / "predictions.json").read_text())
    assert content["videos"] == [{"id": 1, "file_name": "3,a.jpg"}]
    assert content["images"] == [image(1), image(2), image(3, video_id=1, frame=7)]
    assert [r["image_id"] for r in content["results"]] == [2, 2, 2, 3, 3]
    for result, row in zip(content["results"], (0, 1, 2, 0, 1), strict=True):
        found = FOUND[result["image_id"]]
        assert result["file_name"] == f"{result['image_id']},a.jpg"
        assert result["score"] == float(found.scores[row])
        triples = np.reshape(result["keypoints"], (17, 3))
        np.testing.assert_array_equal(triples[:, :2], found.keypoints[row])
        np.testing.assert_array_equal(triples[:, 2], found.keypoint_scores[row])


def test_the_coco_tools_read_it(written):
    content = json.loads((written / "predictions.json").read_text())
    tools = CocoTools()
    tools.dataset = {**content, "annotations": []}
    tools.createIndex()
    found = tools.loadRes(content["results"])
    assert len(found.getAnnIds(imgIds=[2])) == 3
    category = content["categories"][0]
    assert category["keypoints"] == list(COCO.keypoints)
    assert np.min(category["skeleton"]) == 1 and np.max(category["skeleton"]) == 17


def test_the_csv_has_a_row_a_person(written):
    with open(written / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:7] == [
        "file",
        "frame",
        "person",
        "score",
        "nose_x",
        "nose_y",
        "nose_score",
    ]
    assert len(rows[0]) == 4 + 3 * 17
    assert [(row["file"], row["frame"], row["person"]) for row in rows] == [
        *(("2,a.jpg", "", str(person)) for person in (1, 2, 3)),
        *(("3,a.jpg", "7", str(person)) for person in (1, 2)),
    ]
    last = FOUND[3]
    assert float(rows[-1]["score"]) == pytest.approx(last.scores[1], abs=1e-4)
    assert float(rows[-1]["right_ankle_y"]) == pytest.approx(last.keypoints[1, 16, 1], abs=1e-3)


def test_nothing_found_is_still_valid(tmp_path):
    with PredictionFiles(tmp_path, CROWDPOSE, 20, with_csv=True):
        pass
    content = json.loads((tmp_path / "predictions.json").read_text())
    assert content["images"] == content["results"] == content["videos"] == []
    assert (tmp_path / "predictions.csv").read_text().count("\n") == 1


def test_without_the_csv(tmp_path):
    with PredictionFiles(tmp_path, COCO, 20) as files:
        files.add(image(1), people(1))
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]


def test_a_stopped_run_leaves_the_earlier_files(tmp_path):
    (tmp_path / "predictions.json").write_text("earlier")
    with pytest.raises(KeyError), PredictionFiles(tmp_path, COCO, 20, with_csv=True) as files:
        files.add(image(1), people(1))
        raise KeyError
    assert (tmp_path / "predictions.json").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "predictions.json").mkdir()
    with (
        pytest.raises(UserError, match=r"Cannot write '.*predictions\.json'"),
        PredictionFiles(tmp_path, COCO, 20) as files,
    ):
        files.add(image(1), people(1))
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]
