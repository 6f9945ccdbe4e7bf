"""Costs against counts by hand; shapes alone, nothing is computed."""

import jax
import jax.numpy as jnp
import pytest

from pinet_jax import skeletons
from pinet_jax.backbones import hrnet
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.methods import cost as costs_of
from pinet_jax.methods.pinet import cost
from tests import tiny

pytestmark = pytest.mark.slow


def convolution(kernel, inputs, outputs, side):
    """Multiply-adds of one convolution with a square output of so many pixels a side."""
    return kernel * kernel * inputs * outputs * side * side


def backbone_by_hand(config, size):
    """HRNet, convolution by convolution, in the order of the published code."""
    model = config.model
    stem, side = model.stem_width, size // 4
    widths = [model.width * 2**i for i in range(4)]
    sides = [side // 2**i for i in range(4)]
    total = convolution(3, 3, stem, 2 * side) + convolution(3, stem, stem, side)
    inputs = stem
    for _ in range(model.bottlenecks):
        total += convolution(1, inputs, stem, side) + convolution(3, stem, stem, side)
        total += convolution(1, stem, 4 * stem, side)
        if inputs != 4 * stem:  # the projection of the first
            total += convolution(1, inputs, 4 * stem, side)
        inputs = 4 * stem
    total += convolution(3, inputs, widths[0], sides[0])
    total += convolution(3, inputs, widths[1], sides[1])
    total += convolution(3, widths[1], widths[2], sides[2])
    total += convolution(3, widths[2], widths[3], sides[3])
    for branches, modules in zip((2, 3, 4), model.modules, strict=True):
        total += modules * module_by_hand(model.blocks, branches, widths, sides)
    return total


def module_by_hand(blocks, branches, widths, sides):
    total = 0
    for i in range(branches):
        total += blocks * 2 * convolution(3, widths[i], widths[i], sides[i])
        for j in range(branches):  # what branch j brings to branch i
            if j > i:
                total += convolution(1, widths[j], widths[i], sides[j])
            for step in range(j + 1, i + 1):
                outputs = widths[i] if step == i else widths[j]
                total += convolution(3, widths[j], outputs, sides[step])
    return total


def refinement_by_hand(num_keypoints, channels, num_layers, proposals):
    block = num_keypoints * channels * channels + num_keypoints * num_keypoints * channels
    blocks = (1 + 2 * num_layers) * block
    return proposals * (blocks + 3 * channels * channels + channels * 2 * num_keypoints)


@pytest.fixture(scope="module")
def of_coco():
    """Costs of the paper's model for COCO."""
    return cost.network_cost(load_config("coco"), 512, 512)


def assert_pieces(costs, config, size):
    """The multiply-adds of the pieces behind the backbone, by hand."""
    num_keypoints = skeletons.of(config).num_keypoints
    maps = num_keypoints + 3 + 3 * 2 * num_keypoints
    assert costs[cost.HEADS].multiply_adds == convolution(1, 480, maps, size // 4)
    layers, proposals = config.model.graph_layers, cost.num_proposals(config, size, size)
    want = refinement_by_hand(num_keypoints, 480, layers, proposals)
    assert costs[cost.REFINEMENT].multiply_adds == want


def test_the_papers_model(of_coco):
    config = load_config("coco")
    assert of_coco[costs_of.BACKBONE].parameters == 29_305_536
    assert sum(piece.parameters for piece in of_coco.values()) == 31_232_701
    assert of_coco[costs_of.BACKBONE].multiply_adds == backbone_by_hand(config, 512)
    assert_pieces(of_coco, config, 512)


@pytest.mark.parametrize(
    ("name", "parameters"), [("ochuman", 31_696_381), ("crowdpose", 31_683_301)]
)
def test_the_papers_other_models(of_coco, name, parameters):
    assert hrnet.build(load_config(name)) == hrnet.build(load_config("coco"))
    config = load_config(name, tiny.SHORT)
    costs = cost.network_cost(config, 128, 128)
    assert_pieces(costs, config, 128)
    costs[costs_of.BACKBONE] = of_coco[costs_of.BACKBONE]
    assert sum(piece.parameters for piece in costs.values()) == parameters


def test_xla_counts_a_multiply_add_twice_and_the_rest_once():
    for name, piece in cost.network_cost(tiny.config(), 128, 96).items():
        doubled = 2 * piece.multiply_adds
        # Without products with padding, with normalisation, activations and reads.
        assert 0.8 * doubled < piece.xla_flops < 1.5 * doubled, name


def test_costs_follow_the_size_and_the_number_of_proposals():
    config = tiny.config()
    small, large = (cost.network_cost(config, 64, side) for side in (64, 128))
    for name in (costs_of.BACKBONE, cost.HEADS):
        assert large[name].multiply_adds == 2 * small[name].multiply_adds
        assert large[name].parameters == small[name].parameters
    assert large[cost.REFINEMENT] == small[cost.REFINEMENT]
    assert cost.num_proposals(config, 64, 64) == 3 * 5
    more = tiny.config(**{"eval.max_peaks": 10})
    twice = cost.network_cost(more, 64, 64)[cost.REFINEMENT]
    assert twice.multiply_adds == 2 * small[cost.REFINEMENT].multiply_adds


def test_without_refinement_there_is_no_row_of_it():
    costs = cost.network_cost(tiny.config(**{"model.refinement": False}), 64, 64)
    assert list(costs) == [costs_of.BACKBONE, cost.HEADS]


def test_calls_inside_a_program_are_counted():
    def inner(x):
        return jax.nn.relu(x @ jnp.ones((5, 7)))

    jaxpr = jax.make_jaxpr(lambda x: jax.jit(inner)(x) @ jnp.ones((7, 2)))(jnp.ones((3, 5))).jaxpr
    assert costs_of.multiply_adds(jaxpr) == 3 * 5 * 7 + 3 * 7 * 2
    assert costs_of.multiply_adds(jaxpr, convolutions_only=True) == 0


def test_the_table_adds_up():
    costs = {
        "a": costs_of.Cost(1_500_000, 2_000_000_000, 4_100_000_000),
        "bc": costs_of.Cost(7, 0, 0),
    }
    lines = costs_of.table(costs).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["a", "bc", "total"]
    assert lines[-1].split()[1:] == ["1,500,007", "1.50", "2.000", "4.100"]
    assert len({len(line) for line in lines}) == 1


def test_the_table_also_adds_up_without_the_refinement(of_coco):
    """The paper's Table 3 gives 29.4 M for PINet: of the network without PR."""
    lines = costs_of.table(of_coco).splitlines()
    assert [line.split("  ")[0] for line in lines[-2:]] == ["total", "without PR"]
    assert "29,364,218" in lines[-1] and "29.36" in lines[-1]


@pytest.mark.parametrize("size", [(0, 64), (64, 100)])
def test_sizes_that_the_network_cannot_see(size):
    with pytest.raises(UserError, match="multiples of 32"):
        cost.network_cost(tiny.config(), *size)
