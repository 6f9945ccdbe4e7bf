"""A procedural crowd of capsule people with exact ground truth.

`body` poses one person, `scene` places and dresses several, `render` draws them with
a depth buffer, `stream` yields training batches and `builder` writes a TFDS dataset.
"""
