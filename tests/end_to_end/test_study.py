"""A study in miniature: two trainings, two seeds; one of them killed and started again."""

import json

import pytest
from ml_collections import ConfigDict

from configs import study as study_config
from input_pipeline.source import Source
from pinet_jax.config import with_fields
from pinet_jax.errors import UserError
from pinet_jax.runtime import files
from pinet_jax.studies import runs
from pinet_jax.studies.study import run_study
from tests import devices, tiny

ROWS = ["center", "center+PF", "PPG+PR", "full"]


def miniature(folder) -> ConfigDict:
    """The tiny network on few small scenes."""
    config = tiny.get_config()
    config.study = study_config.get_config().study
    config.study.seeds = 2
    config.study.images = 16
    config.study.scenes = 6
    config.study.levels = (0.3, 0.6)
    config.study.scenes_a_level = 4
    config.study.draws = 20
    config.dataset.data_dir = str(folder / "crowd")
    return config.lock()


class Killed(BaseException):
    """What nothing catches."""


def dies_in(number: int):
    """Data whose `number`-th training ends the process after a step."""
    trainings = []

    class Data(Source):
        def train_batches(self, start_step):
            trainings.append(start_step)
            for index, batch in enumerate(super().train_batches(start_step)):
                if len(trainings) == number and index == 3:  # two are on their way to the device
                    raise Killed
                yield batch

    return Data


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with devices.use(1):
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder and config of a study that ran through."""
    folder = tmp_path_factory.mktemp("study")
    config = miniature(folder)
    run_study(config, folder / "whole", Source, ROWS)
    return folder, config


def read(folder):
    return json.loads((folder / "study.json").read_text())


def test_every_row_has_scores_of_every_seed(whole):
    folder, config = whole
    found = read(folder / "whole")
    assert list(found["rows"]) == ROWS
    for row in found["rows"].values():
        assert row["seeds"] == [0, 1]
        assert 0 <= row["AP"] <= 1
        assert set(row["AP_by_share"]) == {"0.5", "0.75", "1"}
        assert set(row["AP_by_box_iou"]) == {"0.3", "0.6"}
    assert found["config"]["study"]["images"] == config.study.images
    claims = {claim["claim"]: claim for claim in found["claims"]}
    assert "fusion helps the centre" in claims
    assert "parts beat the head" not in claims  # its rows were not asked for
    for name in ("report.html", "rows.png", "by_iou.png", "occlusion.png", "stages.png"):
        assert (folder / "whole" / name).stat().st_size > 1000


def test_killed_and_started_again_it_gives_the_same(whole, capsys):
    folder, config = whole
    out, names = folder / "killed", ROWS[:2]  # of one training
    with pytest.raises(Killed):
        run_study(config, out, dies_in(2), names)
    assert read(out)["rows"]["center"]["seeds"] == [0]
    capsys.readouterr()
    run_study(config, out, Source, names)
    found, want = read(out), read(folder / "whole")
    assert found["rows"] == {name: want["rows"][name] for name in names}
    assert found["config"] == want["config"]
    assert "run 1 of 1" in capsys.readouterr().out  # the finished one stays


def test_a_finished_study_only_shows_its_table(whole, capsys):
    folder, config = whole
    run_study(config, folder / "whole", dies_in(1), ROWS)
    shown = capsys.readouterr().out
    assert "center (SPM*)" in shown
    assert "fusion helps the centre" in shown
    assert "refinement beats" not in shown  # a row of it was not asked for
    assert "== run" not in shown


def test_another_config_is_refused(whole):
    folder, config = whole
    other = with_fields(config, {"train.learning_rate": 1.0})
    with pytest.raises(UserError, match="another config"):
        run_study(other, folder / "whole", Source, ROWS)


def test_trainings_differ_in_their_row_and_seed_alone(whole):
    folder, config = whole
    first, second = (runs.training_config(config, runs.Run("center", seed)) for seed in (0, 1))
    assert with_fields(second, {"seed": 0}).to_dict() == first.to_dict()
    full = runs.training_config(config, runs.Run("full", 0))
    back = {"model.partition": "center", "model.refinement": False}
    assert with_fields(full, back).to_dict() == first.to_dict()
    assert files.to_path(folder / "whole" / "runs" / "center_1").is_dir()
