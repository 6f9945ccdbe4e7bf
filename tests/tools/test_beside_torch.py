"""The reference in PyTorch computes what the network and its loss do; skipped without PyTorch."""

import jax
import numpy as np
import pytest

from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import network as pinet
from pinet_jax.weights import convert
from tests import tiny
from tests.whole_loss import whole_loss
from tools.benchmarks import beside_torch, crowds

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from tools.benchmarks import torch_reference  # noqa: E402


@pytest.fixture(scope="module")
def config():
    return tiny.config(**{"dtype": "float32"})


def test_maps_and_loss_agree_and_a_step_runs(config):
    forward, step = beside_torch._torch_variants(config, 2)  # compares them
    before = forward.run()["heatmap_head"]
    step.run()
    assert not torch.equal(before, forward.run()["heatmap_head"])


def test_gradients_agree(config):
    model = pinet.build(config)
    variables = crowds.variables(model)
    batch = beside_torch._batch(config, 2)
    network = torch_reference.build(config, convert.to_torch(variables)).train()
    pixels = torch.tensor(batch["image"]).permute(0, 3, 1, 2)
    targets = torch_reference.as_tensors(*beside_torch._targets(model, batch, config))
    torch_reference.training_loss(network, pixels, targets, config.losses).backward()

    @jax.jit
    def gradients(variables):
        def loss(params):
            return whole_loss(model, params, variables["batch_stats"], batch, config)

        return jax.grad(loss, has_aux=True)(variables["params"])[0]

    ours = convert.to_torch(variables | {"params": jax.device_get(gradients(variables))})
    theirs = {name: p.grad.numpy() for name, p in network.named_parameters()}
    assert set(ours) == set(network.state_dict())  # of which `theirs` has all but the statistics
    # Biases before a normalisation have no gradient: rounding alone.
    largest = max(np.abs(x).max() for x in theirs.values())
    for name, wanted in theirs.items():
        atol = 1e-3 * np.abs(wanted).max() + 1e-6 * largest
        np.testing.assert_allclose(ours[name], wanted, rtol=0, atol=atol, err_msg=name)


def test_a_difference_is_an_error():
    with pytest.raises(UserError, match=r"maps are 1\.0e-01 apart"):
        beside_torch._compare("maps", np.array([1.1, 0]), np.array([1.0, 0]))


def test_it_is_of_cpus_in_float32(config):
    config = config.copy_and_resolve_references()
    config.dtype = "bfloat16"
    with pytest.raises(UserError, match="float32"):
        next(beside_torch.tables(config, 1))
