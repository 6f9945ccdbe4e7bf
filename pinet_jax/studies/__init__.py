"""The paper's experiments, repeated: rows, runs, statistics and verdicts."""
