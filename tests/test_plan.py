"""The plan of the house: which floor may import which, and how full the ground floor is."""

import ast
import pathlib
import shutil
import subprocess
import symtable
import sys
import tomllib

import pytest

from tests.paths import ROOT

LINTER = pathlib.Path(sys.executable).with_name("lint-imports")
PACKAGES = ("pinet_jax", "input_pipeline")
OURS = (*PACKAGES, "configs", "tools", "tests")
MOST_FILES = 7  # of pinet_jax/ itself, beside its folders

needs_linter = pytest.mark.skipif(not LINTER.exists(), reason="import-linter is not installed")


def lint(folder: pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [LINTER, "--no-logo", "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path):
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@needs_linter
def test_the_contract_holds():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@needs_linter
@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("pinet_jax/methods/pinet/losses.py", "from pinet_jax.training import step"),
        ("pinet_jax/runtime/files.py", "from pinet_jax.weights import reading"),
        ("pinet_jax/evaluation/loop.py", "from input_pipeline import source"),
        ("pinet_jax/media/run.py", "import tensorflow"),
    ],
)
def test_a_skipped_floor_breaks_it(copy, file, line):
    path = copy / file
    path.write_text(f"{path.read_text()}\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1 and "BROKEN" in done.stdout


def test_every_file_and_folder_of_the_library_has_its_floor():
    names = {p.stem for p in (ROOT / "pinet_jax").iterdir() if not p.name.startswith("__")}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = " | ".join(contracts["contracts"][0]["layers"]).split(" | ")
    assert {f"pinet_jax.{name}" for name in names} | {"input_pipeline"} == set(layers)


def test_the_library_has_few_files_beside_its_folders():
    assert len(list((ROOT / "pinet_jax").glob("*.py"))) <= MOST_FILES


def imported_names(path: pathlib.Path) -> list[tuple[str, str]]:
    """Modules of ours and the names that a file's `from ... import ...` takes from them."""
    statements = [x for x in ast.walk(ast.parse(path.read_text())) if isinstance(x, ast.ImportFrom)]
    ours = [x for x in statements if x.module and x.module.split(".")[0] in OURS]
    return [(x.module, name.name) for x in ours for name in x.names]


def can_be_imported(module: str, name: str) -> bool:
    """Read, not imported: files that need what is not installed are checked too."""
    folder = ROOT.joinpath(*module.split("."))
    if (folder / name).is_dir() or (folder / f"{name}.py").exists():
        return True
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    table = symtable.symtable(file.read_text(), str(file), "exec")
    return name in table.get_identifiers() and (
        table.lookup(name).is_assigned() or table.lookup(name).is_imported()
    )


def test_names_that_files_import_from_each_other_are_there():
    files = [*ROOT.glob("*.py"), *(file for name in OURS for file in (ROOT / name).rglob("*.py"))]
    names = {(file, *name) for file in files for name in imported_names(file)}
    missing = {(str(file), *name) for file, *name in names if not can_be_imported(*name)}
    assert len(names) > 1000 and not missing
