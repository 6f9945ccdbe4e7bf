"""The metrics of the steps since the last look, kept where they are until somebody looks."""

from typing import Any

import jax
import numpy as np

from pinet_jax.runtime import hosts
from pinet_jax.training.step import FINITE

RUN_AHEAD = 2  # steps that wait on the device; more would only delay a stop


class NotFinite(Exception):
    """The first step whose loss or gradient is not finite.

    Attributes:
        step: its number, counted from 1.
        image_ids: of this process's share of its batch.
        metrics: of the step.
    """

    def __init__(self, step: int, image_ids: list[int], metrics: dict[str, Any]):
        super().__init__(f"step {step}")
        self.step = step
        self.image_ids = image_ids
        self.metrics = metrics


class StepMetrics:
    """Collects the metrics of steps; averages them on demand."""

    def __init__(self):
        self._steps: list[tuple[int, dict, dict]] = []

    def add(self, step: int, metrics: dict[str, jax.Array], host: dict[str, np.ndarray]) -> None:
        """Remembers a step, without fetching anything from the device.

        Args:
            step: its number, counted from 1.
            metrics: scalars, FINITE among them.
            host: image_id and num_dropped of the batch.
        """
        self._steps.append((step, metrics, host))
        if len(self._steps) > RUN_AHEAD:
            jax.block_until_ready(self._steps[-1 - RUN_AHEAD][1])

    def averages(self) -> dict[str, float]:
        """Means since the last call, and the number of persons dropped by all processes.

        Raises:
            NotFinite: one of the steps was not.
        """
        steps, self._steps = self._steps, []
        fetched = jax.device_get([metrics for _, metrics, _ in steps])
        for (step, _, host), metrics in zip(steps, fetched, strict=True):
            if not metrics[FINITE]:
                raise NotFinite(step, host["image_id"].tolist(), metrics)
        names = [name for name in fetched[0] if name != FINITE]
        means = {name: float(np.mean([metrics[name] for metrics in fetched])) for name in names}
        dropped = sum(int(host["num_dropped"].sum()) for _, _, host in steps)
        return means | {"persons_dropped": sum(hosts.gather([dropped]))}
