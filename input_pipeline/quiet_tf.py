"""TensorFlow and TFDS, imported here once so that they stay quiet and off the accelerator.

TensorFlow only reads data: it must not claim GPU memory that JAX needs. All of this happens at
import, and must: TensorFlow reads the variables when it is loaded, and takes the devices that it
sees at its first operation, whoever asks for that.
"""

import os

# Read when TensorFlow is first imported. oneDNN announces itself whatever the log level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf
import tensorflow_datasets as tfds

tf.config.set_visible_devices([], "GPU")
tfds.disable_progress_bar()

__all__ = ["tf", "tfds"]
