"""tools/export.py as a program, and what it writes, held against the Predictor.

Where jax2onnx is absent the ONNX models are not made, but their NumPy decoding is tested on
maps that JAX computes.
"""

import functools
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.export import onnx_models, pinet_onnx, stablehlo
from pinet_jax.inference import fusion
from pinet_jax.inference.network_input import prepare
from pinet_jax.inference.predictor import Predictor
from pinet_jax.methods.peaks import find_peaks
from pinet_jax.methods.pinet import candidates, decoding, network
from pinet_jax.weights import checkpoints
from tests import devices, programs, tiny
from tests.paths import ROOT

DOCS = ROOT / "docs" / "export.md"
SIZE = (64, 128)  # of the network's input
FIELDS = ("keypoints", "keypoint_scores", "scores")

CASES = {
    "default": ({}, {}),
    "scales": ({}, {"eval.scales": (0.5, 1.0), "eval.flip": False, "eval.pose_fusion": False}),
    "unrefined": (
        {"model.refinement": False, "dataset.skeleton": "crowdpose", "model.partition": "center"},
        {"eval.max_peaks": 15},
    ),
    "sided parts": ({"model.partition": "part-small"}, {}),
}
"""Fields that are in the checkpoint, and those that the command line adds."""

needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("jax2onnx", "onnxruntime"))),
    reason="jax2onnx and onnxruntime are absent (requirements-export.txt)",
)


class Case(NamedTuple):
    """A checkpoint, the flags that override its config, and what the library makes of it."""

    folder: pathlib.Path
    flags: list[str]
    config: object
    variables: dict
    inputs: object  # of PHOTOS
    people: list[fusion.People]


def photo(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


PHOTOS = [photo(90, 150, 0), photo(64, 128, 1), photo(200, 380, 2)]
"""All of one network size; the second is its own network input."""


@functools.cache
def make(name: str, folder: pathlib.Path) -> Case:
    saved, flags = CASES[name]
    config = tiny.config(**saved)
    variables = tiny.random_variables(network.build(config), seed=3)
    checkpoints.save_variables(folder / name, config, variables)
    config = tiny.config(**saved, **flags)
    with devices.use(1):
        people = Predictor(config, variables)(PHOTOS)
    inputs = [prepare(one, 64, config.eval.scales, 0.0) for one in PHOTOS]
    inputs = jax.tree.map(lambda *arrays: np.stack(arrays), *inputs)
    flags = [f"--config.{field}={value}" for field, value in flags.items()]
    return Case(folder / name, flags, config, variables, inputs, people)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(params=CASES)
def case(request, folder):
    return make(request.param, folder)


@pytest.fixture
def default(folder):
    return make("default", folder)


def tool(*arguments) -> subprocess.CompletedProcess:
    return programs.run("tools/export.py", *arguments)


def documented(word: str) -> str:
    """The one piece of Python in the documentation that has this word."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (block,) = (block for block in blocks if word in block)
    return block


def run_documented(code: str, blocked: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    """Runs documented code where the `blocked` packages cannot be imported."""
    code = f"import sys\nsys.modules |= dict.fromkeys({blocked})\n" + code
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def assert_same_people(found: list[dict], want: list[fusion.People]) -> None:
    assert len(found) == len(want)
    assert any(len(people.scores) for people in want)
    for one, other in zip(found, want, strict=True):
        for field in FIELDS:
            np.testing.assert_allclose(
                one[field], getattr(other, field), rtol=0, atol=1e-3, err_msg=field
            )


def trimmed(people: dict) -> list[dict]:
    """People of each image, of a padded batch."""
    assert set(people) == {*FIELDS, "valid"}
    rows = [np.asarray(valid) for valid in people["valid"]]
    return [{f: np.asarray(people[f][i])[valid] for f in FIELDS} for i, valid in enumerate(rows)]


# ---- StableHLO


@pytest.fixture(scope="module")
def artefact(folder):
    case = make("default", folder)
    path = folder / "new" / "model.stablehlo"
    done = tool(f"--checkpoint={case.folder}", f"--out={path}", "--size=64x128")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"wrote {path}: ") and "64x128" in done.stdout
    assert list(path.parent.iterdir()) == [path]
    return path


def test_the_artefact_is_for_all_platforms_and_any_number_of_images(artefact):
    exported = jax.export.deserialize(bytearray(artefact.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    images, to_image = exported.in_avals
    assert images.dtype == np.uint8 and images.shape[1:] == (*SIZE, 3)
    assert to_image.dtype == np.float32 and to_image.shape[1:] == (2, 3)
    assert jax.export.is_symbolic_dim(images.shape[0])


def test_the_artefact_finds_the_predictors_people(artefact, default):
    exported = jax.export.deserialize(bytearray(artefact.read_bytes()))
    people = jax.jit(exported.call)(default.inputs.images, default.inputs.to_image)
    assert_same_people(trimmed(people), default.people)


def test_the_artefact_follows_the_config(folder):
    """Scales, flip and fusion; a fixed number of images."""
    case = make("scales", folder)
    path = folder / "scales.stablehlo"
    done = tool(
        "--checkpoint", case.folder, "--out", path, "--size", "64x128", "--batch", 3, *case.flags
    )
    assert done.returncode == 0, done.stderr
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    shapes = [aval.shape for aval in exported.in_avals]
    assert shapes == [(3, 32, 64, 3), (3, 64, 128, 3), (3, 2, 3)]
    people = jax.jit(exported.call)(case.inputs.images, case.inputs.to_image)
    assert_same_people(trimmed(people), case.people)


def test_the_documented_loader_needs_nothing_but_jax(artefact, default, tmp_path):
    (tmp_path / "demo.stablehlo").write_bytes(artefact.read_bytes())
    np.save(tmp_path / "images.npy", PHOTOS[1][None])
    loader = documented("deserialize")
    assert len([line for line in loader.splitlines() if line]) <= 10
    code = loader + "import numpy\nnumpy.savez('people.npz', **people)"
    run_documented(code, ("pinet_jax", "flax", "ml_collections", "orbax", "cv2"), tmp_path)
    with np.load(tmp_path / "people.npz") as people:
        assert_same_people(trimmed(dict(people)), default.people[1:2])


# ---- ONNX


def in_jax(case: Case) -> pinet_onnx.Predictor:
    """The NumPy decoding, of maps that JAX computes as the models do."""
    model = network.build(case.config)
    maps = jax.jit(functools.partial(candidates.onnx_maps, model, case.variables, case.config))
    refine = jax.jit(functools.partial(candidates.onnx_delta, model, case.variables))

    def to_numpy(function):
        return lambda *inputs: jax.tree.map(np.asarray, list(function(*inputs)))

    scales = [
        pinet_onnx.Scale(
            scale,
            to_numpy(maps),
            to_numpy(lambda *inputs: (refine(*inputs),)) if model.refinement else None,
        )
        for scale in case.config.eval.scales
    ]
    settings = onnx_models.decoding_settings(case.config) | {"batch": 2, "size": SIZE}
    return pinet_onnx.Predictor(json.loads(json.dumps(settings)), scales)


def test_the_numpy_decoding_finds_the_predictors_people(case):
    assert_same_people(in_jax(case)(case.inputs.images, case.inputs.to_image), case.people)


@needs_onnx
def test_the_onnx_models_find_the_predictors_people(case, tmp_path):
    """By the documented code, where JAX cannot be imported."""
    out = tmp_path / "demo_onnx"
    done = tool(
        f"--checkpoint={case.folder}", f"--out={out}", "--onnx", "--size=64x128", "--batch=2",
        *case.flags,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    images, to_image = case.inputs
    np.savez(tmp_path / "images.npz", *images)
    np.save(tmp_path / "images.npy", images[-1])  # scale 1, for the documented lines
    np.save(tmp_path / "to_image.npy", to_image)
    code = (
        "sys.path.append('demo_onnx')\n"
        + documented("pinet_onnx.load")
        .replace("people = find_people((images,), to_image)", "")
        .replace("to_image = ", "identity = ")
        + "images = list(np.load('images.npz').values())\n"
        "people = find_people(images, np.load('to_image.npy'))\n"
        "for i, found in enumerate(people):\n"
        "    np.savez(f'people{i}.npz', **found)\n"
    )
    run_documented(code, ("pinet_jax", "flax", "jax", "jaxtyping", "cv2"), tmp_path)
    found = [dict(np.load(tmp_path / f"people{i}.npz")) for i in range(len(PHOTOS))]
    assert_same_people(found, case.people)


@needs_onnx
def test_the_documented_onnx_lines(default, tmp_path):
    contents = onnx_models.folder_contents(default.config, default.variables, SIZE)
    stablehlo.write_folder(tmp_path / "demo_onnx", contents)
    np.save(tmp_path / "images.npy", PHOTOS[1][None])
    code = "sys.path.append('demo_onnx')\n" + documented("pinet_onnx.load")
    run_documented(
        code + "np.savez('people.npz', **people[0])", ("pinet_jax", "flax", "jax"), tmp_path
    )
    assert_same_people([dict(np.load(tmp_path / "people.npz"))], default.people[1:2])


def test_without_the_converter(monkeypatch, default):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(UserError, match="jax2onnx, which is not installed"):
        onnx_models.folder_contents(default.config, default.variables, SIZE)


def test_without_flatbuffers(monkeypatch, default):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(UserError, match="pip install flatbuffers"):
        stablehlo.stablehlo(default.config, default.variables, SIZE)


@pytest.mark.parametrize("size, window", [((7, 9), 3), ((3, 4), 3), ((201, 203), 5)])
def test_peaks_in_numpy(size, window):
    """Plateaus and ties, more peaks than are kept and fewer."""
    levels = np.random.default_rng(0).integers(0, 5, (*size, 3)) / 4
    levels[..., 2] = 0
    maps = levels.astype(np.float32)
    got = pinet_onnx.find_peaks(maps, 30, 0.01, window)
    want = find_peaks(maps[None], 30, 0.01, window)
    for one, other in zip(got, (want.centers, want.scores, want.valid), strict=True):
        np.testing.assert_array_equal(one, other[0])


def test_heatmaps_read_in_numpy():
    """Inside the map, on its rims and far outside."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 5, 7, 3)).astype(np.float32)
    points = rng.uniform(-3, 9, (2, 200, 3, 2)).astype(np.float32)
    points[:, :100] = points[:, :100].round()
    got = pinet_onnx.keypoint_scores([maps], [1.0], 4 * points, (20, 28), 4)
    want = decoding.keypoint_scores([maps], [1.0], 4 * points, (20, 28))
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert (got == 0).any() and (got != 0).any()


@pytest.mark.parametrize("pose_fusion", [True, False])
def test_suppression_in_numpy(pose_fusion):
    """Crowds in which many candidates are of one person; some keypoints score 0."""
    rng = np.random.default_rng(0)
    middle = rng.uniform(0, 100, (4, 5, 1, 2)) + rng.normal(0, 20, (4, 5, 17, 2))
    poses = np.repeat(middle, 6, 1) + rng.normal(0, 3, (4, 30, 17, 2))
    scores = rng.uniform(0, 1, (4, 30, 17)) * (rng.random((4, 30, 17)) > 0.2)
    valid = rng.random((4, 30)) > 0.1
    valid[3] = False
    poses, scores = poses.astype(np.float32), scores.astype(np.float32)
    sigmas = skeletons.get("coco").sigmas
    want, _ = fusion.join(poses, scores, valid, sigmas, 0.7, pose_fusion)
    want = [jax.device_get(want).of_image(row) for row in range(4)]
    got = [
        pinet_onnx.suppress_and_fuse(p[v], s[v], np.array(sigmas), 0.7, pose_fusion)
        for p, s, v in zip(poses, scores, valid, strict=True)
    ]
    assert 5 <= len(want[0].scores) < 27 and len(want[3].scores) == 0
    assert_same_people(got, want)


# ---- The way to the network, sizes, files


@pytest.mark.parametrize("size", [(90, 151), (151, 90), (64, 64), (300, 1000), (33, 34), (1, 1)])
def test_the_documented_way_to_the_network(size):
    names = {}
    exec(documented("def prepare"), names)
    image, to_image = names["prepare"](photo(*size, 0), 64)
    want = prepare(photo(*size, 0), 64, (1.0,), 0.0)
    np.testing.assert_array_equal(image, want.images[0])
    np.testing.assert_array_equal(to_image, want.to_image)


def test_an_image_of_the_networks_size_is_its_input():
    (image,), to_image = prepare(PHOTOS[1], 64, (1.0,), 0.0)
    np.testing.assert_array_equal(image, PHOTOS[1])
    np.testing.assert_array_equal(to_image, np.eye(2, 3))


def test_input_shapes():
    config = tiny.config(**{"eval.scales": (0.5, 1.0, 2.0)})
    assert stablehlo.input_shapes(config, (128, 64)) == [(64, 32, 3), (128, 64, 3), (256, 128, 3)]
    square = tiny.config(**{"eval.square": 1.6})
    assert stablehlo.input_shapes(square, (64, 64)) == [(64, 64, 3)]
    with pytest.raises(UserError, match="and the same as the other"):
        stablehlo.input_shapes(square, (64, 128))


@pytest.mark.parametrize("size", [(64, 100), (128, 128), (32, 64), (0, 64), (64, 0)])
def test_sizes_that_no_image_has(size):
    with pytest.raises(UserError, match=r"--size: no image is .*config.eval.input_size \(64\)"):
        stablehlo.input_shapes(tiny.config(), size)


def test_scales_that_do_not_fit():
    with pytest.raises(UserError, match=r"config\.eval\.scales: scale 0\.3"):
        stablehlo.input_shapes(tiny.config(**{"eval.scales": (0.3,)}), SIZE)


@pytest.mark.parametrize("text", ["64", "64x", "64x64x3", "-64x64", "axb", ""])
def test_what_is_no_size(text):
    with pytest.raises(UserError, match="HEIGHTxWIDTH"):
        stablehlo.parse_size(text)


def test_a_backbone_alone_finds_no_people(default):
    backbone = {"params": {"backbone": {}}, "batch_stats": {}}
    with pytest.raises(UserError, match="backbone alone"):
        stablehlo.stablehlo(default.config, backbone, SIZE)


def test_files_are_written_whole_or_not_at_all(monkeypatch, tmp_path):
    path = tmp_path / "model.stablehlo"
    stablehlo.write_file(path, b"old")
    stablehlo.write_file(path, b"new")
    stablehlo.write_folder(tmp_path / "whole", {"a": b"1", "b": b"2"})
    assert [(tmp_path / "whole" / name).read_bytes() for name in "ab"] == [b"1", b"2"]
    with pytest.raises(UserError, match="there already"):
        stablehlo.write_folder(tmp_path / "whole", {"a": b"1"})

    def full_disk(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    for write_it in (
        lambda: stablehlo.write_file(path, b"newer"),
        lambda: stablehlo.write_folder(tmp_path / "half", {"a": b"12", "b": b"34"}),
    ):
        with pytest.raises(UserError, match="No space left"):
            write_it()
    assert path.read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.stablehlo", "whole"]


def test_urls_are_refused():
    with pytest.raises(UserError, match="is a URL"):
        stablehlo.write_file("gs://bucket/model", b"")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out=x"], "--checkpoint is missing"),
        (["--checkpoint=absent"], "--out is missing"),
        (["--checkpoint=absent", "--out=x"], "No checkpoint in"),
        (["--checkpoint=absent", f"--out={ROOT}", "--onnx"], "is there already"),
        (["--checkpoint={}", "--out=x", "photo.jpg"], "'photo.jpg': export.py takes flags only"),
        (["--checkpoint={}", "--out=x", "--size=64"], "HEIGHTxWIDTH"),
        (["--checkpoint={}", "--out=x", "--config.eval.flop=1"], "no field 'flop'"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(arguments, words, default, tmp_path):
    arguments = [argument.format(default.folder) for argument in arguments]
    done = tool(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1
