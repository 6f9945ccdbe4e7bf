"""CID (Wang and Zhang, CVPR 2022): centres of people, and heatmaps of one person at a time."""

from pinet_jax.methods.cid import released
from pinet_jax.methods.cid.candidates import check, find_candidates, inspect, parts
from pinet_jax.methods.cid.cost import counted_for, network_cost
from pinet_jax.methods.cid.losses import count_batch, train_loss
from pinet_jax.methods.cid.network import CID, build
from pinet_jax.methods.cid.targets import show_targets, targets_of
from pinet_jax.methods.pinet.targets import person_area
