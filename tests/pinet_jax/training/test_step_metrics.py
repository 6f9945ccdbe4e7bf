import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax.training.step_metrics import NotFinite, StepMetrics


def add(metrics, step, loss, finite=True, dropped=0):
    host = {"image_id": np.array([step, 10 * step]), "num_dropped": np.array([dropped, 1])}
    metrics.add(step, {"loss": jnp.float32(loss), "finite": jnp.bool_(finite)}, host)


def test_averages_since_the_last_call():
    metrics = StepMetrics()
    for step, loss in enumerate([1.0, 2.0, 6.0, 7.0], start=1):
        add(metrics, step, loss, dropped=step)
    assert metrics.averages() == {"loss": 4.0, "persons_dropped": 10 + 4}
    add(metrics, 5, 0.5)
    assert metrics.averages() == {"loss": 0.5, "persons_dropped": 1}


def test_the_first_step_that_is_not_finite_is_named():
    metrics = StepMetrics()
    for step, loss in enumerate([1.0, np.inf, 3.0, np.nan], start=1):
        add(metrics, step, loss, finite=np.isfinite(loss))
    with pytest.raises(NotFinite) as bad:
        metrics.averages()
    assert bad.value.step == 2 and bad.value.image_ids == [2, 20]
    assert bad.value.metrics["loss"] == np.inf
