"""PINet in JAX: whole poses of people in crowded scenes.

import pinet_jax
config = pinet_jax.load_config("coco")
predictor = pinet_jax.Predictor.from_checkpoint(workdir)
people = predictor([image])
for people in pinet_jax.Tracker(predictor)(frames): ...
"""

from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.inference.predictor import Predictor
from pinet_jax.tracking.tracker import Tracker
from pinet_jax.weights import convert

__all__ = ["Predictor", "Tracker", "UserError", "convert", "load_config"]
