"""Every test image once, whatever the batches; scores of a run and of its results file agree."""

import json
import os
import pathlib
import re
import shutil
from collections import Counter

import jax
import numpy as np
import pytest

from input_pipeline.source import Source
from pinet_jax.config import check_same_model
from pinet_jax.errors import UserError
from pinet_jax.evaluation import loop, scoring
from pinet_jax.inference.predictor import Predictor
from pinet_jax.methods.pinet import network
from pinet_jax.runtime import hosts
from tests import devices, programs, runs, tiny
from tests.input_pipeline import fake_coco

NUM_IMAGES, FIRST_ID = 7, 1000
PNG = b"\x89PNG"


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with devices.use(1):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A COCO download of a split with ground truth, val, and one without, test-dev."""
    folder = tmp_path_factory.mktemp("evaluation")
    coco = fake_coco.write_fake_coco(
        folder / "coco", num_images=NUM_IMAGES, splits=("val",), sizes=((60, 60),)
    )
    annotations = coco / "annotations"
    content = json.loads((annotations / "person_keypoints_val2017.json").read_text())
    content = {"images": content["images"], "categories": content["categories"]}
    (annotations / "image_info_test-dev2017.json").write_text(json.dumps(content))
    shutil.copytree(coco / "val2017", coco / "test2017")
    return folder


@pytest.fixture(scope="module")
def config_of(folder):
    """Makes configs of the download."""

    def make(**overrides):
        places = {"data_dir": str(folder / "coco"), "prepared_dir": str(folder / "prepared")}
        return tiny.config(
            **{"dataset.name": "coco"},
            **{f"dataset.{name}": place for name, place in places.items()},
            **overrides,
        )

    return make


@pytest.fixture(scope="module")
def variables():
    return tiny.random_variables(network.build(tiny.config()))


@pytest.fixture(scope="module")
def predict(config_of, variables):
    """Results of the split with images of some batch size."""
    return lambda batch_size: runs.predict_split(
        config_of(**{"eval.batch_size": batch_size}),
        variables,
    )


@pytest.fixture(scope="module")
def one_by_one(predict):
    return predict(1)


def in_order(results):
    """By image, then as they came: best first."""
    return sorted(results, key=lambda result: result["image_id"])


def test_some_people_are_found_in_every_image(one_by_one):
    counts = Counter(result["image_id"] for result in one_by_one)
    assert set(counts) == set(range(FIRST_ID, FIRST_ID + NUM_IMAGES))


@pytest.mark.parametrize("batch_size", [3, 8])  # a short last batch; a batch of all
def test_batches_do_not_change_the_results(predict, one_by_one, batch_size):
    expected, results = in_order(one_by_one), in_order(predict(batch_size))
    assert [r["image_id"] for r in results] == [r["image_id"] for r in expected]
    points, wanted = (
        np.reshape([r["keypoints"] for r in found], (len(found), -1, 3))
        for found in (results, expected)
    )
    np.testing.assert_allclose(points[..., :2], wanted[..., :2], atol=1e-3)  # pixels
    np.testing.assert_allclose(points[..., 2], wanted[..., 2], rtol=1e-4, atol=1e-4)


def test_processes_share_the_images(predict, one_by_one, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts, "gather", lambda items: items)
    shares = []
    for process in range(2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        shares.append(predict(1))
    assert all(shares)
    assert in_order(shares[0] + shares[1]) == in_order(one_by_one)


def test_only_the_main_process_scores_and_writes(config_of, variables, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "is_main", lambda: False)
    monkeypatch.setattr(loop, "predict_split", lambda *_: [])
    monkeypatch.setattr(hosts, "gather", lambda items: [*items, {"AP": 0.5}])
    assert runs.evaluate(config_of(), variables, tmp_path / "out") == {"AP": 0.5}
    assert not (tmp_path / "out").exists()


def test_the_device_is_kept_ahead_of_the_host():
    dispatched, events = [], []

    class FakePredictor(Predictor):
        def __init__(self):
            pass

        def predict_batch(self, images, to_image):
            dispatched.append(len(dispatched))
            return jax.numpy.array(dispatched[-1])

    class Batch:
        images, to_image = (), ()

    batches = [Batch() for _ in range(6)]
    for batch, people in loop._predicted(FakePredictor(), iter(batches)):
        events.append((len(dispatched), int(people)))
        assert batch is batches[int(people)]
    # When the results of batch n come, n + 2 is on its way.
    assert events == [(3, 0), (4, 1), (5, 2), (6, 3), (6, 4), (6, 5)]


class Interrupted(Exception):
    pass


def test_results_are_on_disk_as_soon_as_they_are_there(
    config_of, variables, one_by_one, tmp_path, monkeypatch
):
    coco_results, calls = loop.coco_results, []

    def stop_at_the_fifth(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise Interrupted
        return coco_results(*arguments)

    monkeypatch.setattr(loop, "coco_results", stop_at_the_fifth)
    with pytest.raises(Interrupted):
        runs.evaluate(
            config_of(**{"eval.batch_size": 1}),
            variables,
            tmp_path,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl.partial"]
    lines = (tmp_path / "results.jsonl.partial").read_text().splitlines()
    assert lines and all(json.loads(line) in one_by_one for line in lines)
    assert len({json.loads(line)["image_id"] for line in lines}) == 4


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk is /dev/full on Linux")
def test_a_full_disk_is_named(config_of, variables):
    config = config_of(**{"eval.batch_size": 1})
    with pytest.raises(UserError, match=r"Cannot keep the results \(No space left"):
        runs.predict_split(config, variables, pathlib.Path("/dev/full"))


# ---- What is written


@pytest.fixture(scope="module")
def evaluated(config_of, variables, tmp_path_factory):
    """The folder of an evaluation, and its metrics."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    return out, runs.evaluate(
        config_of(**{"eval.batch_size": 8}),
        variables,
        out,
    )


def test_an_evaluation_leaves_its_files(evaluated):
    out, metrics = evaluated
    assert {path.name for path in out.iterdir()} == {
        *("results.json", "metrics.json", "crowding.png", "predictions.png", "report.html")
    }
    for name in ("crowding.png", "predictions.png"):
        assert (out / name).read_bytes().startswith(PNG)
    written = json.loads((out / "metrics.json").read_text())
    assert metrics.items() <= written.items()
    assert set(written) - set(metrics) == {"by_box_iou"}
    edges = tiny.config().eval.iou_intervals
    assert [level["low"] for level in written["by_box_iou"]] == list(edges[:-1])
    assert {"AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75"} <= set(metrics)


def test_the_report_shows_the_pictures_of_the_split(evaluated):
    page = (evaluated[0] / "report.html").read_text()
    assert "Evaluation of coco val" in page and f"{NUM_IMAGES} images" in page
    shown = {int(number) for number in re.findall(r"<h3>image (\d+): ", page)}
    assert shown and shown <= set(range(FIRST_ID, FIRST_ID + NUM_IMAGES))
    assert page.count("data:image/jpeg") == 2 * len(shown)


def test_a_split_without_ground_truth_is_only_predicted(config_of, variables, tmp_path, capsys):
    config = config_of(**{"eval.batch_size": 8, "dataset.eval_split": "test-dev"})
    assert "7 images, no ground truth" in loop.describe_split(config, Source(config))
    assert runs.evaluate(config, variables, tmp_path) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert len({result["image_id"] for result in results}) == NUM_IMAGES
    assert "no ground truth of coco test-dev" in capsys.readouterr().out


def test_a_model_may_be_tested_on_another_dataset_of_its_skeleton(config_of):
    trained = config_of()
    other = config_of(**{"eval.scales": (0.5, 1.0), "eval.flip": False})
    with other.unlocked():
        other.dataset.name, other.dataset.eval_split = "ochuman", "test"
    check_same_model(other, trained)


# ---- eval.py --results


def run_eval(*arguments):
    config = f"--config={tiny.PATH}"
    return programs.run("eval.py", config, *arguments, with_tensorflow=False)


def test_a_results_file_is_scored_without_model_data_or_tensorflow(evaluated, folder, tmp_path):
    out, metrics = evaluated
    truth = folder / "coco/annotations/person_keypoints_val2017.json"
    done = run_eval(
        f"--results={out / 'results.json'}", f"--annotations={truth}", f"--out={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    assert scoring.table(metrics) in done.stdout and "box IoU" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        *("metrics.json", "crowding.png", "report.html")
    }
    for name in ("metrics.json", "crowding.png"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    page = (tmp_path / "report.html").read_text()  # the images are not at hand
    assert "data:image/png" in page and "data:image/jpeg" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--results={bad}", "--annotations={truth}"), "bad.json': entry 0 has no 'image_id'"),
        (
            ("--results={bad}", "--workdir={bad}"),
            "as --results, or tracks as --tracks: one of them",
        ),
        (("--workdir={bad}", "--annotations={truth}"), "--annotations goes with --results"),
    ],
)
def test_bad_requests_end_with_one_sentence(folder, tmp_path, arguments, words):
    bad, out = tmp_path / "bad.json", tmp_path / "out"
    bad.write_text("[{}]")
    truth = folder / "coco/annotations/person_keypoints_val2017.json"
    done = run_eval(*(a.format(bad=bad, truth=truth) for a in arguments), f"--out={out}")
    assert done.returncode == 2, done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: ") and words in last
    assert "Traceback" not in done.stderr and not out.exists()
