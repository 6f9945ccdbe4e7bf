"""PINet (Wang, Zhang, Hua, NeurIPS 2021): whole poses from each of a person's parts, refined."""

from pinet_jax.methods.pinet import released
from pinet_jax.methods.pinet.candidates import (
    check,
    find_candidates,
    inspect,
    onnx_delta,
    onnx_maps,
    parts,
)
from pinet_jax.methods.pinet.cost import counted_for, network_cost
from pinet_jax.methods.pinet.losses import count_batch, targets_of, train_loss
from pinet_jax.methods.pinet.network import PINet, build
from pinet_jax.methods.pinet.targets import person_area, show_targets
