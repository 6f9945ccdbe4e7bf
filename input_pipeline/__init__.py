"""TFDS builders, tf.data, augmentation and padding; the synthetic crowd."""
