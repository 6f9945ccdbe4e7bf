"""CID from training to pictures and an exported model, and released files taken as they are."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from input_pipeline.source import Source
from pinet_jax import methods
from pinet_jax.config import check_same_model, load_config, with_fields
from pinet_jax.errors import UserError
from pinet_jax.export import onnx_models, stablehlo
from pinet_jax.inference.network_input import prepare
from pinet_jax.inference.predictor import Predictor
from pinet_jax.weights import convert, reading
from tests import programs, runs, tiny

CID = {
    "model.method": "cid",
    "eval.flip_shift": 0,
    "eval.pose_fusion": False,
    "targets.max_instances": 6,
}
SEEN = "--config.eval.input_size=64"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    crowd = str(tmp_path_factory.mktemp("crowd"))
    return tiny.config(**CID, **{"dataset.data_dir": crowd})


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A workdir of a training of four steps on all devices."""
    workdir = tmp_path_factory.mktemp("cid")
    state = runs.train(config, workdir)
    assert int(state.step) == 4
    return workdir


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A file of random weights of the smallest CID there is, under its released names."""
    config = tiny.config(**CID, **tiny.RELEASABLE)
    variables = tiny.random_variables(methods.of(config).build(config))
    file = tmp_path_factory.mktemp("download") / "cid_coco.safetensors"
    state_dict = convert.to_torch(variables)
    save_file({"module." + name: array for name, array in state_dict.items()}, file)
    return file, variables


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_it_is_trained_evaluated_and_predicted_with(config, trained, tmp_path):
    saved, variables = reading.load_variables(trained)
    assert saved.model.method == "cid" and set(variables["params"]) == {"backbone", "iia", "gfd"}
    log = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {"heatmap_loss", "instance_loss", "contrastive_loss"} <= set(log[-1])
    metrics = runs.evaluate(config, variables, tmp_path / "eval")
    assert {"AP", "AR"} <= set(metrics) and np.isfinite(list(metrics.values())).all()
    (image, _), *_ = Source(config).load_eval_images([0])
    (people,) = Predictor.from_checkpoint(trained)([image])
    assert people.keypoints.shape[1:] == (17, 2)


def test_a_training_goes_on_where_it_was(config, trained, tmp_path):
    """Of the jitter, too: the same steps at once and in two runs, to the last bit."""
    half = config.copy_and_resolve_references()
    half.train.epochs = config.train.epochs / 2
    half.train.schedule = config.train.schedule
    runs.train(half, tmp_path)
    assert reading.steps_of(tmp_path) == [2]
    runs.train(config, tmp_path)
    wanted, found = (reading.load_variables(folder)[1] for folder in (trained, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_it_is_exported(trained):
    config, variables = reading.load_variables(trained)
    exported = jax.export.deserialize(
        bytearray(stablehlo.stablehlo(config, variables, (tiny.SIZE, tiny.SIZE)))
    )
    image = np.random.default_rng(0).integers(0, 256, (tiny.SIZE, tiny.SIZE, 3), np.uint8)
    seen = prepare(image, tiny.SIZE, (1.0,))
    found = jax.device_get(exported.call((seen.images[0][None],), seen.to_image[None]))
    (people,) = Predictor(config, variables)([image])
    valid = found["valid"][0]
    assert valid.sum() == len(people.scores)
    np.testing.assert_allclose(found["keypoints"][0][valid], people.keypoints, atol=1e-2)
    with pytest.raises(UserError, match=r"no ONNX export of config\.model\.method 'cid'"):
        onnx_models.folder_contents(config, variables, (tiny.SIZE, tiny.SIZE))


def test_a_released_file_is_predicted_with_as_it_is(released, photo, tmp_path):
    file, _ = released
    out = tmp_path / "found"
    done = programs.run(
        "predict.py", "--checkpoint", file, photo, "--out", out, "--show_parts", "--heatmaps",
        SEEN, "--config.dtype=float32", "--config.eval.max_peaks=5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "predictions.json").read_text())["results"]
    assert results and all(len(result["keypoints"]) == 17 * 3 for result in results)
    for picture in ("a.png", "parts/a.png", "heatmaps/a.png"):
        assert (out / picture).stat().st_size > 1000
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # nothing beside it


def test_a_released_file_is_a_checkpoint_everywhere(released):
    file, variables = released
    predictor = Predictor.from_checkpoint(file)
    found = predictor.config
    assert found.model.method == "cid" and found.model.width == 8
    assert found.eval.oks_threshold == load_config("cid_coco").eval.oks_threshold
    _, _, again = reading.load_newest(file, tiny.config(**CID, **tiny.RELEASABLE))
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    with pytest.raises(UserError, match=r"cid_coco.*unknown gfd.*--config\.model\.method=cid"):
        reading.load_newest(file, tiny.config(**tiny.RELEASABLE))
    with pytest.raises(UserError, match="No file"):
        reading.load_variables(file.with_name("absent.pth.tar"))


def test_a_training_starts_from_a_released_file(released, config, tmp_path, monkeypatch):
    from pinet_jax.training import start, step

    file, variables = released
    config = with_fields(config, {**tiny.RELEASABLE, "train.init_from": str(file)})
    fresh = jax.eval_shape(
        lambda: step.create_state(
            methods.of(config).build(config), step.make_optimizer(lambda _: 0.1), 0
        )
    )
    state = start.load_initial(fresh, config)
    jax.tree.map(np.testing.assert_array_equal, state.params, variables["params"])


@pytest.mark.parametrize(("wanted", "trained"), [("coco", "cid_coco"), ("cid_coco", "spm")])
def test_another_methods_checkpoint_is_refused_with_the_config_that_fits(wanted, trained):
    with pytest.raises(UserError, match=rf"model\.method is .*configs/{trained}\.py"):
        check_same_model(load_config(wanted), load_config(trained))


def test_a_model_of_one_dataset_is_tested_on_another():
    check_same_model(load_config("cid_ochuman"), load_config("cid_coco"))


def test_its_cost_is_counted():
    counted = methods.named("cid").network_cost(load_config("cid_coco"), 512, 512)
    assert sum(piece.parameters for piece in counted.values()) == 29_363_087
    pixels = 128**2
    assert counted["IIA"].multiply_adds == pixels * 480 * 18
    shared = pixels * 480 * 32
    each = 2 * 480 * 32 + pixels * (5 * 5 * 3 + 64 * 32 + 32 * 17)
    assert counted["GFD"].multiply_adds == shared + 30 * each
