"""PINet in JAX: whole poses of people in crowded scenes.

import pinet_jax
config = pinet_jax.load_config("coco")
predictor = pinet_jax.Predictor.from_checkpoint(workdir)
people = predictor([image])
"""

from pinet_jax import convert
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.predictor import Predictor

__all__ = ["Predictor", "UserError", "convert", "load_config"]
