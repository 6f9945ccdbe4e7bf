"""The training run and its step."""
