"""Weights on disk: checkpoints, and the files of other programs."""
