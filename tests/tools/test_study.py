import pytest

from tests import programs


def run(*arguments):
    """The finished program."""
    return programs.run("tools/study.py", *arguments)


def test_a_budget_that_is_used_up_between_trainings_ends_it_with_one_sentence(tmp_path):
    data = f"--config.dataset.data_dir={tmp_path / 'crowd'}"
    out = f"--out={tmp_path / 'study'}"
    ended = run("--config=configs/study.py", out, data, "--budget=0.0001")
    assert ended.returncode == 143
    assert ended.stderr.strip().splitlines()[-1].endswith("start again to go on")
    assert (tmp_path / "study" / "config.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config=configs/study.py",), "--out is missing"),
        (("--config=configs/demo.py", "--out={out}"), "of no study"),
        (("--config=configs/study.py", "--out={out}", "--rows=torso"), "no row 'torso'"),
    ],
)
def test_bad_requests_end_with_one_sentence(tmp_path, arguments, words):
    ended = run(*(argument.format(out=tmp_path / "out") for argument in arguments))
    assert ended.returncode == 2
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and words in last
