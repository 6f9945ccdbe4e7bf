"""The type checker of the test suite: annotations hold while tests run, array shapes included."""

import functools
import importlib.util
import os
from collections.abc import Callable

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype
from jaxtyping import _import_hook

from tests.paths import ROOT

CHECKER = "tests.shapes.checked"  # as jaxtyping's import hook wants it named
PACKAGES = ["pinet_jax", "input_pipeline"]

_strict = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int serves where a float is asked

_OURS = tuple(f"{ROOT / package}{os.sep}" for package in PACKAGES)
_checked_file = _import_hook._optimized_cache_from_source


def check_what_is_imported() -> None:
    """From now on, all of PACKAGES; what was imported before stays unchecked."""
    _import_hook._optimized_cache_from_source = _compiled_file
    jaxtyping.install_import_hook(PACKAGES, CHECKER)


def _compiled_file(checker: str, /, path: str, *options: str) -> str:
    """Where Python looks for the compiled form of the module at `path`.

    While a module of PACKAGES is imported jaxtyping names its own place, that of forms with
    checks, for whatever that imports too: TensorFlow would be compiled anew by every process.
    """
    if path.startswith(_OURS):
        return _checked_file(checker, path, *options)
    return importlib.util.cache_from_source(path, *options)


def checked(function: Callable) -> Callable:
    """beartype's check of arguments and result.

    JAX also builds a pytree of what stands for its arrays (their shapes, their axes, None):
    such a one is not checked.
    """
    check = _made_when_called(function)
    if function.__name__ != "__init__":
        return check

    @functools.wraps(function)
    def init(self, *args, **kwargs):
        if hasattr(self, "_flax_dataclass") and not _all_arrays((args, kwargs)):
            return function(self, *args, **kwargs)
        return check(self, *args, **kwargs)

    return init


def _made_when_called(function: Callable) -> Callable:
    """beartype writes and compiles code for every check: most are not needed in a process."""
    made = functools.cache(lambda: _strict(function))

    @functools.wraps(function)
    def check(*args, **kwargs):
        return made()(*args, **kwargs)

    return check


def _all_arrays(tree) -> bool:
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None)
    return all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
