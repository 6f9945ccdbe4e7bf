"""Scores of people found, by the benchmarks' protocols."""
