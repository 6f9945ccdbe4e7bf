"""Folders and whole files, local or in the cloud, of which a stopped program leaves none half."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator

from etils import epath

from pinet_jax.errors import UserError

Path = pathlib.Path | epath.Path  # the latter of URLs


def to_path(path: str | os.PathLike) -> Path:
    """The absolute path, or that of a URL such as gs://bucket/run, with pathlib's methods."""
    return epath.Path(path) if is_cloud(path) else pathlib.Path(path).expanduser().absolute()


def is_cloud(path: str | os.PathLike) -> bool:
    """Whether it is a URL: nothing can be appended there, but what is written appears whole."""
    return "://" in os.fspath(path)


def make_folder(path: str | os.PathLike) -> Path:
    """The folder `path`, made if absent; UserError if it cannot be written to."""
    folder = to_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not is_cloud(folder):
            # Permission bits do not tell (root, read-only mounts, full disks): try it.
            with tempfile.NamedTemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise UserError(
            f"Cannot write to the folder '{folder}' ({error.strerror or error}): name another one."
        ) from None
    return folder


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a whole text file in UTF-8; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A local path to write a file or a folder to, which becomes `path` at the end.

    Readers meet what was at `path` before or all of the new, never a part; after an error,
    whatever it is, what was there before stays. The local path ends as `path` does, for
    libraries that go by the ending. A URL can be that of a file only.

        with replacing("index.npz") as temporary:
            np.savez(temporary, **arrays)

    Raises:
        UserError: an OSError in the block or in the replacing, such as a full disk, a folder
            that is absent or one that may not be written to.
    """
    path = to_path(path)
    neighbour = _in_cloud(path) if is_cloud(path) else _beside(path)
    with disk_errors_as_user_errors(path), neighbour as temporary:
        yield temporary


@contextlib.contextmanager
def disk_errors_as_user_errors(path: Path) -> Iterator[None]:
    """An OSError in the block becomes the UserError that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write '{path}' ({error.strerror or error}): free some space or name "
            "another folder."
        ) from None


@contextlib.contextmanager
def _beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _in_cloud(path: epath.Path) -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory() as folder:
        temporary = pathlib.Path(folder) / path.name
        yield temporary
        path.write_bytes(temporary.read_bytes())


def _flush_to_disk(path: pathlib.Path) -> None:
    """A name must not reach the disk before what it names, or a power cut leaves it empty."""
    for written in [*path.rglob("*")] if path.is_dir() else [path]:
        if written.is_file():
            with open(written, "rb") as file:
                os.fsync(file.fileno())
