"""People keep their identity through a video: linking, baselines, formats and metrics."""
