"""What all tests share: checked shapes, quick compilation, four CPU devices, released weights."""

import gc
import os

from tests.paths import TESTS

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxtyping
import pytest

from tests import shapes, xla_flags
from tests.resident import give_back, resident

shapes.check_what_is_imported()  # before anything is
jax.config.update("jax_num_cpu_devices", 4)

PROGRAMS = {"end_to_end", "tools"}  # folders of tests
MOST_RESIDENT = 2**30  # bytes that a process may hold from one module of tests to the next


def pytest_configure(config: pytest.Config) -> None:
    """Traces and compiles quickly and once, here and in the programs that tests start."""
    from pinet_jax.runtime import memory  # not before its shapes are checked

    memory.collect_rarely()
    xla_flags.compile_quickly()  # before XLA reads its flags
    settings = {
        "jax_compilation_cache_dir": str(config.cache.mkdir("xla")),
        "jax_persistent_cache_min_compile_time_secs": 0.5,
        "jax_disable_most_optimizations": True,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run whole programs are slow."""
    for item in items:
        if PROGRAMS & set(item.path.relative_to(TESTS).parts):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What is imported stays: Python need not look through it for garbage ever again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """What fills the memory and can be made again is dropped before the next module."""
    yield
    if resident() > MOST_RESIDENT:
        give_back()


@pytest.fixture
def unchecked():
    """Shapes are not checked, as for users: for arguments that are wrong on purpose."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")  # `bounded_memory` could not give a session's back
def golden_state_dict() -> dict:
    """The released state dict that the golden arrays were computed with."""
    from tests.pinet_jax.methods.pinet import golden

    return golden.state_dict()


@pytest.fixture(scope="module")
def released():
    """Config, model and variables of the golden arrays: PINet-W32 for COCO in float32."""
    from tests.pinet_jax.methods.pinet import golden

    return golden.released()
