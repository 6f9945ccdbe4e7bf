"""The wrapper of the programs, in processes of their own: flags live as long as one."""

import os
import subprocess
import sys

import pytest

from pinet_jax import program
from tests import programs
from tests.paths import ROOT

CONFIG = f"--config={ROOT}/configs/base.py"


def join(address, num_processes, process_id):
    return (
        f"--coordinator_address={address}",
        f"--num_processes={num_processes}",
        f"--process_id={process_id}",
    )


PROGRAM = """
import jax
from absl import flags
from pinet_jax import program
from pinet_jax.errors import UserError

flags.DEFINE_string("fail", "", "")

def main(arguments):
    if flags.FLAGS.fail == "user":
        raise UserError("The file 'x' is wrong: mend it.")
    if flags.FLAGS.fail == "bug":
        raise ZeroDivisionError
    if flags.FLAGS.fail == "talk":
        for number in range(100_000):
            print(number)
    if flags.FLAGS.fail == "some":
        return 1
    config = program.config_from_flags()
    print(arguments[1:], config.eval.flip, config.eval.scales, config.augmentation.rotation)
    print(jax.config.jax_compilation_cache_dir)

program.run(main)
"""

OVERRIDE = """
from pinet_jax import program
from pinet_jax.config import load_config

def main(arguments):
    config = load_config("base")
    print(program.override(config, arguments)[1:], config.eval.flip, config.model.modules)

program.run(main, known_flags_only=True)
"""


def run(code: str, *arguments: str, tmp_path) -> subprocess.CompletedProcess:
    path = tmp_path / "program.py"
    path.write_text(code)
    return programs.run(path, *arguments)


@pytest.mark.slow
def test_overrides_reach_the_config_and_switch_the_cache_on(tmp_path):
    done = run(
        PROGRAM,
        *("one", CONFIG, "--noconfig.eval.flip", "--config.eval.scales=0.5,1", "two"),
        *("--config.augmentation.rotation=3", f"--config.compilation_cache={tmp_path}/xla"),
        tmp_path=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['one', 'two'] False (0.5, 1.0) 3.0",
        f"{tmp_path}/xla",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((CONFIG, "--config.eval.flipp=True"), "no field 'flipp': did you mean 'flip'?"),
        ((CONFIG, "--config.eval.flip=maybe"), "--config.eval.flip=maybe"),
        ((CONFIG, "--config.train.schedule=linear"), "'linear' is not one of step, cosine."),
        ((CONFIG, "--config.eval.scales=half"), "'scales': ('half',) must hold floats"),
        ((CONFIG, "--wordir=x"), "Unknown command line flag 'wordir'"),
        (("--config=absent.py",), "No config 'absent.py'"),
        (("--config=absent.py", "--config.seed=1"), "Cannot read the file that --config names"),
        ((), "No config: give --config=configs/NAME.py"),
        (("--config.seed=1",), "No config: give --config=configs/NAME.py"),
        (("--fail=user",), "The file 'x' is wrong: mend it."),
        ((CONFIG, "--num_processes=2"), "--process_id go together: give all three"),
        ((CONFIG, "--coordinator_address=a:1", "--process_id=0"), "go together: give all three"),
        ((CONFIG, *join("a", 2, 0)), "--coordinator_address: 'a' is not HOST:PORT"),
        ((CONFIG, *join("a:1", 0, 0)), "--num_processes: 0 is less than 1"),
        ((CONFIG, *join("a:1", 2, 2)), "--process_id: 2 is not from 0 to 1"),
        ((CONFIG, "--multi_host"), "--multi_host: this is no TPU pod, SLURM, Open MPI"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(tmp_path, arguments, words):
    done = run(PROGRAM, *arguments, tmp_path=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("fail", "code"), [("some", 1), ("bug", 1)])
def test_other_ends_keep_their_codes(tmp_path, fail, code):
    done = run(PROGRAM, f"--fail={fail}", tmp_path=tmp_path)
    assert done.returncode == code
    assert ("ZeroDivisionError" in done.stderr) == (fail == "bug")


@pytest.mark.slow
def test_fields_of_a_loaded_config_are_overridden(tmp_path):
    arguments = ("a.png", "--config.eval.flip=False", "--config.model.modules=1,1,1", "b.png")
    done = run(OVERRIDE, *arguments, tmp_path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['a.png', 'b.png'] False (1, 1, 1)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.eval.flipp=True", "no field 'flipp': did you mean 'flip'?"),
        ("--config.model.modules=1,2.5", "'modules': (1, 2.5) must hold ints"),
        ("--oot=x", "Unknown command line flag 'oot'"),
        (CONFIG, "a checkpoint carries its config"),
    ],
)
def test_mistakes_in_overrides_end_with_one_sentence(tmp_path, argument, words):
    done = run(OVERRIDE, argument, tmp_path=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_bug(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    child = subprocess.Popen(
        [sys.executable, str(path), "--fail=talk"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"0\n"
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 141


@pytest.mark.parametrize(
    ("platforms", "plugins", "wanted"),
    [("", (), False), ("", ("cuda",), True), ("cpu", ("cuda",), False), ("cuda", ("cuda",), True)],
)
def test_an_accelerator_is_known_by_its_plugin(monkeypatch, platforms, plugins, wanted):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: plugins)
    assert program.may_use_accelerator() == wanted
