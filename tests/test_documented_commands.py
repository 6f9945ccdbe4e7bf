"""The commands of the README and of docs/: all are possible, the quick ones run."""

import pathlib
import re
import shlex

import cv2
import numpy as np
import pytest
from PIL import Image

from pinet_jax.config import load_config, save_config
from pinet_jax.methods.pinet import network
from pinet_jax.weights import checkpoints
from tests import programs, tiny
from tests.paths import ROOT

pytestmark = pytest.mark.slow

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = ("python", ".venv/bin/python")
PLACEHOLDERS = ("NAME", "MINE", "FIELD", "X", "...")


def commands_of(page: pathlib.Path) -> list[list[str]]:
    """The words of every command that starts Python, in the page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    return [words for block in blocks for words in commands_in(block)]


def commands_in(block: str) -> list[list[str]]:
    block = block.replace("\\\n", " ")
    for name, value in re.findall(r'^(\w+)="(.*)"$', block, re.MULTILINE):
        block = re.sub(rf"\${name}\b", value, block)
    found = []
    for line in block.splitlines():
        line = re.split(r"\s#\s|\s\[|\s&\s", line)[0]  # comments, what may be left out
        if any(f"{python} " in line for python in PYTHON):
            words = split(line)
            starts = [i for i, word in enumerate(words) if word in PYTHON]
            found += [words[start + 1 :] for start in starts]
    return found


def split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # inside a quotation of several lines
        return shlex.split(line.replace("'", ""))


def every_command():
    commands = [(page, words) for page in PAGES for words in commands_of(page)]
    return [
        pytest.param(page, words, id=f"{page.stem}-{number}")
        for number, (page, words) in enumerate(commands)
    ]


def source_of(words: list[str]) -> tuple[pathlib.Path | None, list[str]]:
    """The file that a command runs, and its arguments; None for Python's own modules."""
    if words[0] == "-m":
        path = ROOT / (words[1].replace(".", "/") + ".py")
        return (path if path.exists() else None), words[2:]
    return ROOT / words[0], words[1:]


def defined_flags(path: pathlib.Path) -> set[str]:
    text = path.read_text() + (ROOT / "pinet_jax" / "program.py").read_text()
    flags = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text)
    return {*flags, *re.findall(r'add_argument\(\s*"--(\w+)"', text), "help"}


def config_of(arguments: list[str]):
    """That of --config, if it is one of ours; what all configs share otherwise."""
    joined = " ".join(arguments)
    name = re.search(r"--config[ =](\S+)\.py", joined)
    own = name and (ROOT / f"{name[1]}.py").exists()
    return load_config(str(ROOT / f"{name[1]}.py") if own else "base")


@pytest.mark.parametrize(("page", "words"), every_command())
def test_the_command_is_possible(page, words):
    path, arguments = source_of(words)
    if path is None:
        return
    if path.name != "make_five_points.py":  # the reader's own
        assert path.exists(), path
    flags = defined_flags(path) if path.exists() else set()
    config = config_of(arguments)
    for argument in arguments:
        field = re.match(r"--config\.([\w.]+)", argument)
        if field:
            if not any(part in PLACEHOLDERS for part in field[1].split(".")):
                section = config
                for part in field[1].rstrip(".").split("."):
                    assert part in section, f"no field {field[1]} in the config"
                    section = section[part]
        elif argument.startswith("--") and argument != "--":
            name = re.split(r"[=\[]", argument[2:])[0]
            assert name in flags or name.removeprefix("no") in flags, argument


def test_commands_are_found():
    assert len(every_command()) > 40
    assert {page.name for page in PAGES} >= {"README.md", "predict.md", "quickstart.md"}


# ---- The quick ones run


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder as a reader has it after `make demo`, with a tiny model for the demo's."""
    folder = tmp_path_factory.mktemp("reader")
    for path in ROOT.iterdir():
        if path.name not in ("runs", "photos", ".venv", ".git"):
            (folder / path.name).symlink_to(path)
    config = tiny.config(**{"eval.input_size": 128})  # as the demo
    workdir = folder / "runs" / "demo"
    save_config(workdir, config)
    variables = tiny.random_variables(network.build(config))
    with checkpoints.Checkpoints(workdir, keep=2) as saved:
        for step in (1, 2):
            saved.save({"step": np.array(step), **variables})
    rng = np.random.default_rng(0)
    (folder / "photos" / "more").mkdir(parents=True)
    for name in ("a.jpg", "more/b.png"):
        cv2.imwrite(str(folder / "photos" / name), rng.integers(0, 256, (48, 64, 3), np.uint8))
    frames = [Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)) for _ in range(3)]
    frames[0].save(folder / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    return folder


def quick_commands():
    programs = ("predict.py", "tools/adjacency.py", "tools/summary.py", "tools/export.py")
    chosen, seen = [], set()
    for page, words in (command.values for command in every_command()):
        other_model = "runs/demo" not in words and words[0] != "tools/summary.py"
        not_here = {"--webcam", "--onnx", "WORKDIR", "CHECKPOINT"} & set(words)
        if words[0] not in programs or other_model or not_here or tuple(words) in seen:
            continue
        seen.add(tuple(words))
        chosen.append(pytest.param(words, id=f"{page.stem}-{len(chosen)}"))
    return chosen


def test_quick_commands_are_found():
    assert len(quick_commands()) >= 6


@pytest.mark.parametrize("words", quick_commands())
def test_the_command_runs_as_written(reader, words):
    done = programs.run(*words, cwd=reader)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr[-2000:]}"
