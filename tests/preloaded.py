"""What the programs that tests start have imported already; TensorFlow is not among it."""
# ruff: noqa: F401

import cv2
import matplotlib.backends.backend_agg
import matplotlib.figure
import scipy.optimize

import input_pipeline.source
import pinet_jax.evaluation.loop
import pinet_jax.methods.pinet
import pinet_jax.program
import pinet_jax.training.loop
