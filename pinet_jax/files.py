"""Folders and whole files, written so that a stopped program leaves none half done."""

import os
import pathlib
import tempfile

from pinet_jax.errors import UserError


def make_folder(path: str | os.PathLike) -> pathlib.Path:
    """The folder `path`, made if absent; UserError if it cannot be written to."""
    folder = pathlib.Path(path).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permission bits do not tell (root, read-only mounts, full disks): try it.
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"Cannot write to the folder '{folder}' ({error.strerror}): name another one."
        ) from None
    return folder


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a whole text file; readers see the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"Cannot write '{path}' ({error.strerror}): free some space or name another folder."
        ) from None
