"""Compiled programs that the next process finds again, neither traced nor compiled.

JAX's own cache spares the compiling alone, and asks for the whole trace to find it. Here a
program is found by what it is made from: what its maker says of it, the shapes that it is
called with, the library's source, versions, settings and devices.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import importlib.metadata
import itertools
import os
import pathlib
import pickle
import platform
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from pinet_jax.runtime import files

MOST = 2**30  # bytes kept; programs that were used the longest ago make room
_SOURCES = ("pinet_jax", "input_pipeline")  # packages that programs are made by
_MAKERS = ("jax", "jaxlib", "flax", "optax", "numpy")
_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")

_switch = threading.Lock()
_compiling = 0  # threads that are
_jax_cache = True  # whether JAX may use its own cache when none is

_folder: files.Path | None = None  # where this process keeps programs


def keep_in(folder: str | os.PathLike | None) -> None:
    """From now on this process keeps its programs in `folder`, and looks for them there.

    Only for what is trusted as the library is: a program found there is run. None: no longer.
    """
    global _folder
    _folder = None if folder is None else files.to_path(folder)


class Program:
    """A compiled function of arguments of always the same shapes.

    Args:
        name: of what it does.
        function: jitted or pmapped; its `lower` makes the program.
        made_from: text that says all that its trace depends on beside the arguments and the
            library itself, such as a config. None: it cannot be told, and is not kept.

    Attributes:
        run: the compiled program, once there is one; among several processes the function.
    """

    def __init__(self, name: str, function: Callable, made_from: str | None = None):
        self._name = name
        self._function = function
        self._made_from = made_from
        self.run: Callable | None = None
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns."""
        if self.run is None:
            self.prepare(*arguments)
        return self.run(*arguments)

    def prepare(self, *arguments: Any) -> None:
        """Finds or compiles the program; shapes with shardings do for arguments."""
        with self._lock:  # of threads that call it at once, the first makes it
            if self.run is None:
                self.run = self._found(arguments) or self._compiled(arguments)

    def find(self, *arguments: Any) -> bool:
        """Whether there is the program already, here or where it is kept."""
        with self._lock:
            if self.run is None:
                self.run = self._found(arguments)
            return self.run is not None

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """As of the function."""
        return self._function.lower(*arguments)

    def _found(self, arguments: tuple) -> Callable | None:
        if jax.process_count() > 1:  # pmap's own programs do not know of other processes
            return self._function
        path = self._path(arguments)
        return None if path is None else _load(path, arguments)

    def _compiled(self, arguments: tuple) -> Callable:
        lowered, path = self.lower(*arguments), self._path(arguments)
        if path is None:
            return lowered.compile()
        with _without_jax_cache():
            compiled = lowered.compile()
        _save(path, compiled)
        return compiled

    def _path(self, arguments: tuple) -> files.Path | None:
        """Where it is kept, if it is."""
        if _folder is None or self._made_from is None:
            return None
        return _folder / f"{self._name}-{_key(self._made_from, arguments)}"


def prepare(wanted: Mapping[Program, tuple]) -> None:
    """Finds or compiles several programs, each for its arguments.

    They are compiled side by side, but found one after the other, which is quicker where freed
    memory is kept (`memory.py`): all threads share one heap there.
    """
    missing = {program: given for program, given in wanted.items() if not program.find(*given)}
    with concurrent.futures.ThreadPoolExecutor(len(missing) or 1) as threads:
        compiling = [threads.submit(program.prepare, *given) for program, given in missing.items()]
    for made in compiling:
        made.result()


def in_words(*makers: Any) -> str:
    """What a program is made from, as text for `Program`: the same in every process.

    Args:
        makers: anything whose `repr` tells all of it, but for the places of functions in memory.
    """
    return re.sub(r" at 0x[0-9a-f]+", "", repr(makers))


def _key(made_from: str, arguments: tuple) -> str:
    leaves, tree = jax.tree.flatten(arguments)
    texts = [made_from, str(tree), *map(_shape, leaves), *_surroundings()]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _shape(leaf: Any) -> str:
    return f"{leaf.dtype}{leaf.shape}{getattr(leaf, 'sharding', None)}"


def _surroundings() -> Iterator[str]:
    """All that a trace and its compilation depend on beside what they are of."""
    yield sys.version
    yield from (f"{name} {importlib.metadata.version(name)}" for name in _MAKERS)
    yield from (os.environ.get(name, "") for name in _FLAGS)
    yield str(sorted(item for item in jax.config.values.items() if not _is_told(item[0])))
    yield from (f"{device.device_kind} {device.id}" for device in jax.devices())
    yield jax.devices()[0].client.platform_version
    yield _processor()
    yield _source()


def _is_told(setting: str) -> bool:
    """Whether it changes no program, or is told by the devices there are."""
    return "cache" in setting or setting == "jax_num_cpu_devices"


@functools.cache
def _processor() -> str:
    """What this machine's processor can do: homes are shared among machines that differ."""
    facts = pathlib.Path("/proc/cpuinfo")  # of Linux
    lines = facts.read_text().splitlines() if facts.exists() else []
    features = (line for line in lines if line.startswith(("flags", "Features")))
    return f"{platform.machine()} {platform.processor()} {next(features, '')}"


@functools.cache
def _source() -> str:
    """A digest of the library's own text."""
    digest = hashlib.sha256()
    root = pathlib.Path(__file__).resolve().parents[2]
    for package in _SOURCES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _without_jax_cache() -> Iterator[None]:
    """Inside, JAX compiles anew: what it has from its own cache cannot be written once more.

    For several threads at a time; what other threads compile meanwhile is compiled anew too.
    """
    global _compiling, _jax_cache
    with _switch:
        if not _compiling:
            _jax_cache = jax.config.jax_enable_compilation_cache
        _compiling += 1
        _use_jax_cache(False)
    try:
        yield
    finally:
        with _switch:
            _compiling -= 1
            _use_jax_cache(_jax_cache and not _compiling)


def _use_jax_cache(on: bool) -> None:
    jax.config.update("jax_enable_compilation_cache", on)
    compilation_cache.reset_cache()  # JAX asks for the setting once


def _load(path: files.Path, arguments: tuple) -> Callable | None:
    """The program kept at `path`; None if there is none that can be run here."""
    try:
        devices = _devices_of(arguments)
        program = serialize_executable.deserialize_and_load(
            *pickle.loads(path.read_bytes()),
            backend=devices[0].client,
            execution_devices=devices,
        )
    except Exception:  # damaged, or of a machine that has not what this one has, whatever it is
        return None
    with contextlib.suppress(OSError, NotImplementedError):  # may be read from where none may write
        path.touch()
    return program


def _devices_of(arguments: tuple) -> list[jax.Device]:
    """The devices that the arguments are on; the first, if they are on none yet."""
    shardings = (getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(arguments))
    sets = [sharding.device_set for sharding in shardings if sharding is not None]
    return sorted(set().union(*sets) or jax.devices()[:1], key=lambda device: device.id)


def _save(path: files.Path, program: jax.stages.Compiled) -> None:
    """Keeps a program, if it can be kept: what could not costs the next start some time."""
    try:
        content = pickle.dumps(serialize_executable.serialize(program))
        files.make_folder(path.parent)
        with files.replacing(path) as temporary:
            temporary.write_bytes(content)
        _make_room(path.parent)
    except Exception as error:
        print(f"cannot keep a compiled program in '{path.parent}': {error}", file=sys.stderr)


def _make_room(folder: files.Path) -> None:
    stats = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process makes room too
            stats[path] = path.stat()
    newest_first = sorted(stats, key=lambda path: -stats[path].st_mtime)
    sizes = itertools.accumulate(stats[path].st_size for path in newest_first)
    for path, together in zip(newest_first, sizes, strict=True):
        if together > MOST:
            path.unlink(missing_ok=True)
