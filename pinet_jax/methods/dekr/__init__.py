"""DEKR (Geng et al., CVPR 2021): offsets of each keypoint regressed by a branch of its own.

With the losses of PINet, of which DEKR's are those of one part without refinement.
"""

from pinet_jax.methods.dekr import released
from pinet_jax.methods.dekr.candidates import check, find_candidates, inspect, parts
from pinet_jax.methods.dekr.cost import counted_for, network_cost
from pinet_jax.methods.dekr.network import DEKR, build
from pinet_jax.methods.dekr.targets import person_area, show_targets, targets_of
from pinet_jax.methods.pinet import count_batch, train_loss
