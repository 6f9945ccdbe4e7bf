"""Folders and whole files, local or in the cloud, of which a stopped program leaves none half."""

import os
import pathlib
import tempfile

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


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file; readers see the old one or the new one, never a part."""
    try:
        path.write_text(text) if is_cloud(path) else _replace(path, text)
    except OSError as error:
        raise UserError(
            f"Cannot write '{path}' ({error.strerror or error}): free some space or name "
            "another folder."
        ) from None


def _replace(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
