"""What the package's weights have learned, on photographs that they have not seen."""

import pytest

from input_pipeline import still_pairs
from pinet_jax.config import load_config
from pinet_jax.tracking.correspondences import network, training, weights
from tests.paths import DATA

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not (DATA / "coco").is_dir(), reason="no samples of COCO in ../shared/data")
def test_they_find_far_more_joints_of_held_out_stills_than_an_untrained_network(tmp_path):
    config = load_config(
        "correspondences",
        {"dataset.data_dir": str(DATA / "coco"), "dataset.prepared_dir": str(tmp_path)},
    )
    net = network.build(config)
    fresh = training.create_state(net, config)
    stills = still_pairs.Annotated(config, "val")

    def share(variables):
        pairs = still_pairs.held_out(config, stills, 24)
        scores = training.check(net, variables, pairs)
        assert scores["positives"] > 150
        return scores["refinement"], scores["affinity"], scores

    _, untrained, _ = share({"params": fresh.params, "batch_stats": fresh.batch_stats})
    refined, trained, scores = share(weights.load(config).variables)
    assert min(refined, trained) >= 1.5 * untrained
    assert scores["r_positive"] > 1.2 * scores["r_absent"]
