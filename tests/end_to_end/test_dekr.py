"""DEKR from training to pictures and an exported model, with its scoring net and all its ways."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from input_pipeline.source import Source
from pinet_jax import methods
from pinet_jax.errors import UserError
from pinet_jax.export import onnx_models, stablehlo
from pinet_jax.inference import pose_scoring
from pinet_jax.inference.inspection import Inspector
from pinet_jax.inference.network_input import prepare
from pinet_jax.inference.predictor import Predictor
from pinet_jax.training import start, step
from pinet_jax.weights import convert, reading
from tests import programs, runs, tiny
from tests.golden import weights_dekr
from tests.pinet_jax.methods.dekr import golden

DEKR = {
    "model.method": "dekr",
    "model.keypoint_channels": 4,
    "targets.area": "released",
    "targets.min_area": 0.0,
    "eval.suppression": "dekr",
    "eval.pose_fusion": False,
}
TINY = tiny.PATH


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    return str(tmp_path_factory.mktemp("crowd"))


@pytest.fixture(scope="module")
def config(crowd):
    return tiny.config(**DEKR, **{"dataset.data_dir": crowd})


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A workdir of a training of four steps on all devices."""
    workdir = tmp_path_factory.mktemp("dekr")
    assert int(runs.train(config, workdir).step) == 4
    return workdir


@pytest.fixture(scope="module")
def scored(trained, tmp_path_factory):
    """The same model with a trained scoring net."""
    out = tmp_path_factory.mktemp("scored") / "model"
    done = programs.output_of(
        "tools/train_scoring_net.py", "--checkpoint", trained, "--out", out,
        "--config.eval.peak_threshold=-1000.0",
    )  # fmt: skip
    assert f"wrote {out}" in done
    return out


def test_it_is_trained_evaluated_and_predicted_with(config, trained, tmp_path):
    saved, variables = reading.load_variables(trained)
    assert saved.model.method == "dekr"
    assert set(variables["params"]) == {"backbone", "heatmap_head", "offset_head"}
    log = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["offset_loss"] > 0
    metrics = runs.evaluate(config, variables, tmp_path / "eval")
    assert {"AP", "AR"} <= set(metrics) and np.isfinite(list(metrics.values())).all()
    (image, _), *_ = Source(config).load_eval_images([0])
    (people,) = Predictor.from_checkpoint(trained)([image])
    assert people.keypoints.shape[1:] == (17, 2)
    inspection = Inspector(saved, variables)(image)
    assert [maps.shape[-1] for maps in inspection.part_heatmaps] == [1]
    np.testing.assert_allclose(inspection.people.scores, people.scores, atol=1e-5)


def test_a_training_goes_on_where_it_was(config, trained, tmp_path):
    half = config.copy_and_resolve_references()
    half.train.epochs = config.train.epochs / 2
    runs.train(half, tmp_path)
    assert reading.steps_of(tmp_path) == [2]
    runs.train(config, tmp_path)
    wanted, found = (reading.load_variables(folder)[1] for folder in (trained, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_candidates_become_the_people_that_they_were_taken_for(trained):
    config, variables = reading.load_variables(trained)
    config.eval.peak_threshold = -1000.0
    variables[pose_scoring.SCORING] = jax.device_get(pose_scoring.init(0, golden.skeletons.COCO))
    image = np.random.default_rng(0).integers(0, 256, (tiny.SIZE, tiny.SIZE, 3), np.uint8)
    for net in (False, True):
        config.eval.scoring_net = net
        seen = Inspector(config, variables)(image)
        for index, pose in enumerate(seen.people.keypoints):
            members = seen.candidates.poses[seen.person == index]
            assert min(np.abs(member - pose).max() for member in members) < 1e-4
        assert (np.diff(seen.people.scores) <= 0).all()


def test_it_is_exported(scored):
    config, variables = reading.load_variables(scored)
    assert config.eval.scoring_net
    exported = jax.export.deserialize(
        bytearray(stablehlo.stablehlo(config, variables, (tiny.SIZE, tiny.SIZE)))
    )
    image = np.random.default_rng(0).integers(0, 256, (tiny.SIZE, tiny.SIZE, 3), np.uint8)
    seen = prepare(image, tiny.SIZE, (1.0,))
    found = jax.device_get(exported.call((seen.images[0][None],), seen.to_image[None]))
    (people,) = Predictor(config, variables)([image])
    valid = found["valid"][0]
    assert valid.sum() == len(people.scores)
    np.testing.assert_allclose(found["scores"][0][valid], people.scores, atol=1e-4)
    with pytest.raises(UserError, match=r"no ONNX export of config\.model\.method 'dekr'"):
        onnx_models.folder_contents(config, variables, (tiny.SIZE, tiny.SIZE))


def test_six_rows_are_compared(crowd, scored, tmp_path):
    fields = [f"--config.{name}={value}" for name, value in DEKR.items()]
    printed = programs.output_of(
        "eval.py", "--config", TINY, "--checkpoint", scored, "--out", tmp_path,
        "--compare_suppression", f"--config.dataset.data_dir={crowd}", *fields,
    )  # fmt: skip
    rows = json.loads((tmp_path / "comparison.json").read_text())
    ways = ("own_suppression", "oks_suppression", "oks_pose_fusion")
    assert list(rows) == [*ways, *(f"{way}_scoring_net" for way in ways)]
    for name, metrics in rows.items():
        assert json.loads((tmp_path / name / "metrics.json").read_text())["AP"] == metrics["AP"]
    table = printed[-printed[::-1].index("PA") :]
    assert [line.split("  ")[0] for line in table.splitlines()[1:7]] == [
        name.replace("_", " ") for name in rows
    ]


def test_a_training_starts_from_a_model_with_a_scoring_net(config, scored):
    config = config.copy_and_resolve_references()
    config.train.init_from = str(scored)
    fresh = jax.eval_shape(
        lambda: step.create_state(methods.of(config).build(config), step.make_optimizer(0.1), 0)
    )
    state = start.load_initial(fresh, config)
    wanted = reading.load_variables(scored)[1]
    jax.tree.map(np.testing.assert_array_equal, state.params, wanted["params"])


def test_a_released_net_is_put_beside_a_released_model(tmp_path):
    config = tiny.config(**DEKR, **tiny.RELEASABLE)
    variables = tiny.random_variables(methods.of(config).build(config))
    state_dict = convert.to_torch(variables)
    save_file(state_dict, tmp_path / "model.safetensors")
    net = weights_dekr.scoring_state_dict()
    save_file(net, tmp_path / "net.safetensors")
    programs.output_of(
        "tools/train_scoring_net.py", "--checkpoint", tmp_path / "model.safetensors",
        "--out", tmp_path / "both", "--released", tmp_path / "net.safetensors",
    )  # fmt: skip
    found, both = reading.load_variables(tmp_path / "both")
    assert found.model.method == "dekr" and found.eval.scoring_net
    back = convert.to_torch(both)
    assert set(back) == set(state_dict)
    for name in back:
        np.testing.assert_array_equal(back[name], state_dict[name])
    for name, array in pose_scoring.to_torch(both[pose_scoring.SCORING]).items():
        np.testing.assert_array_equal(array, net[name])


def test_fusion_is_refused_with_its_own_suppression():
    config = tiny.config(**(DEKR | {"eval.pose_fusion": True}))
    with pytest.raises(UserError, match=r"pose_fusion goes with config\.eval\.suppression=oks"):
        methods.of(config).build(config)
