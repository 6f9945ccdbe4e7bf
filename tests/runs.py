"""Runs of a config on the data that it names, as the programs wire them."""

import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from input_pipeline.source import Source
from pinet_jax.evaluation import loop as evaluation
from pinet_jax.training import loop as training
from pinet_jax.training.step import TrainState


def train(config: ConfigDict, workdir: pathlib.Path | str) -> TrainState:
    return training.train(config, str(workdir), Source(config))


def evaluate(
    config: ConfigDict, variables: Mapping[str, Any], out: pathlib.Path
) -> dict[str, float]:
    return evaluation.evaluate(config, variables, Source(config), out)


def predict_split(
    config: ConfigDict, variables: Mapping[str, Any], partial: pathlib.Path | None = None
) -> list[dict]:
    return evaluation.predict_split(config, variables, Source(config), partial)
