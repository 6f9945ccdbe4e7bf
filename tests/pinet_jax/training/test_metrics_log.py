import json

import jax.numpy as jnp
import numpy as np
import pytest
import tensorboardX
from etils.epath import backend, gpath

from pinet_jax import visualize
from pinet_jax.config import load_config, read_config, save_config
from pinet_jax.errors import UserError
from pinet_jax.runtime import files
from pinet_jax.training.metrics_log import MetricsLog, read_metrics
from pinet_jax.weights import reading


def test_lines_are_on_disk_at_once(tmp_path):
    with MetricsLog(tmp_path / "run") as log:
        log.write(1, {"loss": jnp.float32(0.5), "learning_rate": np.float64(1e-3)})
        lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [
            {"step": 1, "loss": 0.5, "learning_rate": 1e-3}
        ]
    assert list((tmp_path / "run/tensorboard").glob("events*"))


def test_resuming_drops_the_steps_after_the_checkpoint(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in (10, 20, 30):
            log.write(step, {"loss": step})
    with MetricsLog(tmp_path, resume_step=20) as log:
        log.write(30, {"loss": 0})
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["loss"]) for r in records] == [(10, 10.0), (20, 20.0), (30, 0.0)]
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "lo')
    with MetricsLog(tmp_path, resume_step=5) as log:
        log.write(6, {"loss": 1})
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 6]


def test_values_that_json_lacks_are_null(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": float("nan"), "norm": float("inf")})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "loss": None, "norm": None}


def test_a_damaged_line_inside_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics.jsonl' line 2"):
        MetricsLog(tmp_path, resume_step=3)


def test_a_workdir_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot write to the folder '.*file'"):
        MetricsLog(tmp_path / "file")


# ---- In the cloud


@pytest.fixture
def bucket(monkeypatch):
    """gs://bucket in memory, for all but TensorBoard's writer."""
    memory = pytest.importorskip("fsspec").filesystem("memory", skip_instance_cache=True)
    monkeypatch.setattr(memory, "store", {})
    monkeypatch.setattr(memory, "pseudo_dirs", [""])
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)  # it has a way of its own
    monkeypatch.setattr(backend.fsspec_backend, "fs", lambda _path: memory, raising=False)
    monkeypatch.setattr(tensorboardX, "SummaryWriter", Events)
    return "gs://bucket/run"


class Events:
    def __init__(self, folder, purge_step):
        assert folder == "gs://bucket/run/tensorboard"

    def add_scalar(self, *_arguments):
        pass

    def close(self):
        pass


def test_the_log_of_a_bucket(bucket):
    with MetricsLog(bucket) as log:
        for step in (1, 2):
            log.write(step, {"loss": step})
    with MetricsLog(bucket, resume_step=1) as log:
        log.write(2, {"loss": 3})
    records = read_metrics(f"{bucket}/metrics.jsonl")
    assert records == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}]


def test_configs_and_scores_of_a_bucket(bucket):
    config = load_config("base")
    save_config(bucket, config)
    assert read_config(bucket) == config
    folder = files.make_folder(f"{bucket}/eval_steps/3")
    visualize.save_png(np.zeros((2, 3, 3), np.uint8), folder / "loss_curves.png")
    assert (folder / "loss_curves.png").read_bytes().startswith(b"\x89PNG")
    files.write_text(folder / "metrics.json", '{"AP": 0.5}')
    workdir = files.to_path(bucket)
    assert reading.average_precisions(workdir) == {3: 0.5}
    reading.drop_evaluations(workdir, after=0)
    assert reading.average_precisions(workdir) == {}


# ---- One process of several


def test_a_log_that_does_not_write_leaves_no_file(tmp_path):
    with MetricsLog(tmp_path / "run", writes=False) as log:
        log.write(1, {"loss": 1})
    assert not (tmp_path / "run").exists()


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    with MetricsLog(tmp_path) as log:
        (tmp_path / "metrics.jsonl").mkdir()
        with pytest.raises(UserError, match=r"Cannot write '.*metrics.jsonl'"):
            log.write(1, {"loss": 1})
