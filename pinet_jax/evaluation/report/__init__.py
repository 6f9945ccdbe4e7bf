"""The report of an evaluation: one HTML file that opens anywhere, without a network."""

from pinet_jax.evaluation.report.writing import write_report

__all__ = ["write_report"]
