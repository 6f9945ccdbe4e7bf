"""Another method than PINet, from training to an exported model, by the names of methods/."""

import jax
import numpy as np
import pytest

from input_pipeline.source import Source
from pinet_jax import methods
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.export import stablehlo
from pinet_jax.inference.inspection import Inspector
from pinet_jax.inference.network_input import prepare
from pinet_jax.inference.predictor import Predictor
from pinet_jax.weights import convert, reading
from tests import runs, tiny

SPM = {"model.method": "spm", "model.partition": "center", "model.refinement": False}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    crowd = str(tmp_path_factory.mktemp("crowd"))
    return tiny.config(**SPM, **{"dataset.data_dir": crowd, "eval.pose_fusion": False})


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A workdir of a training of four steps."""
    workdir = tmp_path_factory.mktemp("spm")
    state = runs.train(config, workdir)
    assert int(state.step) == 4
    return workdir


def test_it_is_trained_evaluated_and_predicted_with(config, trained, tmp_path):
    saved, variables = reading.load_variables(trained)
    assert saved.model.method == "spm" and set(variables["params"]) == {"backbone", "ppg"}
    metrics = runs.evaluate(config, variables, tmp_path / "eval")
    assert {"AP", "AR"} <= set(metrics) and np.isfinite(list(metrics.values())).all()
    (image, _), *_ = Source(config).load_eval_images([0])
    (people,) = Predictor.from_checkpoint(trained)([image])
    assert people.keypoints.shape[1:] == (17, 2)
    inspection = Inspector(saved, variables)(image)
    assert [maps.shape[-1] for maps in inspection.part_heatmaps] == [1]
    np.testing.assert_allclose(inspection.people.scores, people.scores, atol=1e-5)


def test_it_is_exported(trained):
    config, variables = reading.load_variables(trained)
    exported = jax.export.deserialize(
        bytearray(stablehlo.stablehlo(config, variables, (tiny.SIZE, tiny.SIZE), batch=1))
    )
    image = np.random.default_rng(0).integers(0, 256, (tiny.SIZE, tiny.SIZE, 3), np.uint8)
    seen = prepare(image, tiny.SIZE, (1.0,))
    found = jax.device_get(exported.call((seen.images[0][None],), seen.to_image[None]))
    (people,) = Predictor(config, variables)([image])
    valid = found["valid"][0]
    assert valid.sum() == len(people.scores)
    np.testing.assert_allclose(found["keypoints"][0][valid], people.keypoints, atol=1e-2)


def test_it_computes_what_pinet_with_one_part_does(config, trained):
    _, variables = reading.load_variables(trained)
    image = np.random.default_rng(1).integers(0, 256, (tiny.SIZE, tiny.SIZE, 3), np.uint8)
    (people,) = Predictor(config, variables)([image])
    pinet = SPM | {"model.method": "pinet", "eval.pose_fusion": False}
    (same,) = Predictor(tiny.config(**pinet), variables)([image])
    np.testing.assert_array_equal(people.keypoints, same.keypoints)


def test_its_weights_convert_and_its_cost_is_counted():
    config = load_config("spm")
    cost = methods.of(config).network_cost(config, 512, 512)
    # Table 3 of the PINet paper: 29.3 M.
    assert sum(piece.parameters for piece in cost.values()) == 29_305_536 + 480 * 52 + 52
    tiny_config = tiny.config(**SPM)
    model = methods.of(tiny_config).build(tiny_config)
    variables = tiny.random_variables(model)
    again = convert.from_torch(convert.to_torch(variables), tiny_config)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_choices_that_are_not_its_own_are_refused():
    with pytest.raises(UserError, match="SPM has the partition 'center' and no refinement"):
        methods.of(tiny.config(**(SPM | {"model.refinement": True}))).build(
            tiny.config(**(SPM | {"model.refinement": True}))
        )
    with pytest.raises(UserError, match="no method 'openpose'; use one of pinet, spm, dekr, cid"):
        methods.of(tiny.config(**{"model.method": "openpose"}))


@pytest.mark.parametrize("name", methods.NAMES)
def test_every_method_has_the_names(name):
    wanted = ("build", "parts", "check", "person_area", "targets_of", "count_batch", "train_loss")
    wanted += ("find_candidates", "inspect", "network_cost", "counted_for", "released")
    method = methods.named(name)
    assert not [name for name in wanted if not hasattr(method, name)]
