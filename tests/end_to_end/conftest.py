"""Whole runs find compiled programs again, as users' do."""

import pathlib

import jax
import pytest

from pinet_jax.runtime import programs


@pytest.fixture(scope="module", autouse=True)
def kept_programs():
    """Where the programs that tests start keep theirs; nothing here changes the library."""
    programs.keep_in(pathlib.Path(jax.config.jax_compilation_cache_dir) / "programs")
    yield
    programs.keep_in(None)
