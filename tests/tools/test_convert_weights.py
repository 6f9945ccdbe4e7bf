"""tools/convert_weights.py as a program, and what takes the checkpoints it writes."""

import json
import subprocess

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from pinet_jax.config import check_same_model, save_config
from pinet_jax.errors import UserError
from pinet_jax.inference.predictor import Predictor
from pinet_jax.methods.pinet import network
from pinet_jax.methods.variables import init
from pinet_jax.training import loop
from pinet_jax.training import step as training
from pinet_jax.weights import checkpoints, convert, reading
from pinet_jax.weights.torch_files import read_state_dict
from tests import programs, runs, tiny

HEAD = {"classifier.weight": np.ones((5, 4), np.float32), "final_layer.0.bias": np.ones(3)}
CROWDPOSE = {"dataset.skeleton": "crowdpose", "model.graph_layers": 3}


def random_weights(config) -> dict[str, np.ndarray]:
    """Under their released names; every activation stays alive."""
    rng = np.random.default_rng(0)

    def draw(name, shape):
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            return np.ones(shape, np.float32)
        fan_in = max(1, int(np.prod(shape[1:])))
        return rng.normal(0, fan_in**-0.5, shape).astype(np.float32)

    return {name: draw(name, shape) for name, (_, shape) in convert._entries(config).items()}


def backbone_of(state_dict):
    return {
        name.removeprefix("backbone."): array
        for name, array in state_dict.items()
        if name.startswith("backbone.")
    }


def run(script: str, *arguments) -> subprocess.CompletedProcess:
    return programs.run(script, *arguments)


def convert_weights(source, out, *arguments) -> subprocess.CompletedProcess:
    return run("tools/convert_weights.py", source, "--out", out, *arguments)


@pytest.fixture(scope="module")
def state_dict():
    return random_weights(tiny.config(**CROWDPOSE))


@pytest.fixture(scope="module")
def converted(state_dict, tmp_path_factory):
    """The checkpoint of a whole model: 14 keypoints, 3 graph layers."""
    folder = tmp_path_factory.mktemp("converted")
    save_file({"module." + n: x for n, x in state_dict.items()}, folder / "w.safetensors")
    flags = [f"--config.{field}={value}" for field, value in CROWDPOSE.items()]
    done = convert_weights(
        folder / "w.safetensors", folder / "out", f"--config={tiny.PATH}", *flags
    )
    assert done.returncode == 0, done.stderr
    assert "a whole model of" in done.stdout
    return folder / "out"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """The config, the checkpoint of a backbone alone, and its variables."""
    config = tiny.config()
    variables = convert.from_torch(backbone_of(random_weights(config)) | HEAD, config)
    folder = tmp_path_factory.mktemp("backbone")
    checkpoints.save_variables(folder, config, variables)
    return config, folder, variables


def test_the_checkpoint_holds_config_and_variables(converted, state_dict):
    config, variables = reading.load_variables(converted)
    assert config == tiny.config(**CROWDPOSE)
    jax.tree.map(np.testing.assert_array_equal, variables, convert.from_torch(state_dict, config))
    assert not list(converted.parent.glob("*tmp*"))


def test_the_way_back_gives_the_same_file(converted, state_dict, tmp_path):
    done = convert_weights(converted, tmp_path / "back.safetensors", "--to_torch")
    assert done.returncode == 0, done.stderr
    back = read_state_dict(tmp_path / "back.safetensors")
    assert {n for n in back if not n.endswith("num_batches_tracked")} == state_dict.keys()
    for name, array in state_dict.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_predict_and_eval_accept_the_checkpoint(converted, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(tmp_path / "a.png")
    done = run(
        "predict.py", "--checkpoint", converted, tmp_path / "a.png", "--out", tmp_path / "out",
        "--config.eval.flip=False",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out/predictions.json").read_text())["results"]
    assert results and all(len(result["keypoints"]) == 14 * 3 for result in results)
    trained, _ = reading.load_variables(converted)
    check_same_model(tiny.config(**CROWDPOSE), trained)
    with pytest.raises(UserError, match="another config"):
        check_same_model(tiny.config(), trained)


def test_14_keypoints_and_several_scales_from_the_checkpoint(converted):
    config, variables = reading.load_variables(converted)
    with config.unlocked():
        config.eval.scales = (0.5, 1.0, 2.0)
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    (people,) = Predictor(config, variables)([image])
    assert len(people.scores) and people.keypoints.shape[1:] == (14, 2)
    assert np.isfinite(people.keypoints).all()


def test_weights_that_do_not_fit_write_nothing(state_dict, tmp_path):
    save_file(state_dict, tmp_path / "w.safetensors")
    done = convert_weights(tmp_path / "w.safetensors", tmp_path / "out", f"--config={tiny.PATH}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    for words in (
        "ppg.heatmap_head.bias has shape (14,), the config wants (17,)",
        "unknown pr.gconv_layers.2.gconv1.conv.weight",
        "--config.dataset.skeleton=crowdpose --config.model.graph_layers=3",
    ):
        assert words in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_folder_with_something_in_it_is_left_alone(converted, backbone):
    config, _, variables = backbone
    with pytest.raises(UserError, match="is not empty"):
        checkpoints.save_variables(converted, config, variables)
    assert reading.load_variables(converted)[0] == tiny.config(**CROWDPOSE)


def start(monkeypatch, config, workdir) -> training.TrainState:
    """The state that a training starts from; none of its steps is run."""
    monkeypatch.setattr(loop._Run, "go", lambda self, state, *_: state.train)
    monkeypatch.setattr(loop, "read_metrics", lambda _: [{"step": 1, "loss": 1.0}])
    return jax.device_get(runs.train(config, workdir))


def test_training_starts_from_a_whole_model(monkeypatch, converted, tmp_path):
    config = tiny.config(**CROWDPOSE, **{"train.init_from": str(converted)})
    state = start(monkeypatch, config, tmp_path)
    variables = reading.load_variables(converted)[1]
    jax.tree.map(np.testing.assert_array_equal, state.params, variables["params"])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, variables["batch_stats"])
    assert state.step == 0


def test_training_starts_from_a_backbone(monkeypatch, backbone, tmp_path):
    config, folder, variables = backbone
    fresh = jax.device_get(init(network.build(config), config.seed))
    config = tiny.config(**{"train.init_from": str(folder)})
    state = start(monkeypatch, config, tmp_path)
    for kind, want in variables.items():
        got = getattr(state, kind)
        jax.tree.map(np.testing.assert_array_equal, got["backbone"], want["backbone"])
        assert got.keys() == fresh[kind].keys()
        for part in set(got) - {"backbone"}:
            jax.tree.map(np.testing.assert_array_equal, got[part], fresh[kind][part])


def test_a_training_that_goes_on_ignores_init_from(monkeypatch, backbone, tmp_path):
    config, folder, _ = backbone
    with checkpoints.Checkpoints(tmp_path, keep=1) as saved:
        save_config(tmp_path, config)
        state = start(monkeypatch, config, tmp_path / "other")
        saved.save(state.replace(step=np.int32(5)))
    config = tiny.config(**{"train.init_from": str(folder)})
    resumed = start(monkeypatch, config, tmp_path)
    assert resumed.step == 5
    jax.tree.map(np.testing.assert_array_equal, resumed.params, state.params)


def test_training_refuses_another_models_weights(monkeypatch, converted, tmp_path):
    config = tiny.config(**{"train.init_from": str(converted)})
    with pytest.raises(UserError, match=r"out' is of another config .*init_from"):
        start(monkeypatch, config, tmp_path)


def test_predicting_with_a_backbone_alone_is_refused(backbone):
    with pytest.raises(UserError, match=r"backbone alone.*init_from"):
        Predictor.from_checkpoint(backbone[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["w.pth"], "--out"),
        (["--out=x"], "Give one file"),
        (["absent.pth", "--out=x"], "No config"),
        (["absent.pth", "--out=x", f"--config={tiny.PATH}"], "No file 'absent.pth'"),
        (["absent", "--out=x.pth", "--to_torch"], "No checkpoint in"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(arguments, words):
    done = run("tools/convert_weights.py", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1
