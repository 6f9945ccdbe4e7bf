"""SPM (Nie et al., ICCV 2019) as PINet's tables have it: one part, the whole person, unrefined.

With the heads, the losses, the decoding and the released names of PINet.
"""

from ml_collections import ConfigDict

from pinet_jax.errors import UserError
from pinet_jax.methods import pinet
from pinet_jax.methods.pinet import (
    count_batch,
    counted_for,
    find_candidates,
    inspect,
    network_cost,
    onnx_delta,
    onnx_maps,
    parts,
    person_area,
    released,
    show_targets,
    targets_of,
    train_loss,
)

PARTITION = "center"


def build(config: ConfigDict) -> pinet.PINet:
    """PINet's network for the one part; UserError on an unknown choice."""
    check(config)
    return pinet.build(config)


def check(config: ConfigDict) -> None:
    """UserError unless the config asks for one part and no refinement."""
    if config.model.partition != PARTITION or config.model.refinement:
        raise UserError(
            f"config.model: SPM has the partition '{PARTITION}' and no refinement: set "
            f"config.model.partition={PARTITION} and config.model.refinement=False, as "
            "configs/spm.py does, or config.model.method=pinet."
        )
    pinet.check(config)
