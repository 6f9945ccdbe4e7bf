import errno

import numpy as np
import pytest

from pinet_jax.errors import UserError
from pinet_jax.runtime import files


def test_a_folder_is_made_with_its_parents(tmp_path):
    folder = files.make_folder(tmp_path / "a" / "b")
    assert folder.is_dir() and list(folder.iterdir()) == []
    assert files.make_folder(folder) == folder


def test_text_replaces_the_old_file(tmp_path):
    for text in ("old", "new\n"):
        files.write_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_text() == "new\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"Cannot write '.*folder'"):
        files.write_text(tmp_path / "folder", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_takes_its_place_whole(tmp_path):
    with files.replacing(tmp_path / "model.v1") as temporary:
        temporary.mkdir()
        (temporary / "a").write_bytes(b"1")
        assert not (tmp_path / "model.v1").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model.v1"]
    assert (tmp_path / "model.v1/a").read_bytes() == b"1"


def test_a_library_meets_the_ending_that_it_goes_by(tmp_path):
    with files.replacing(tmp_path / "index.npz") as temporary:
        np.savez(temporary, a=np.arange(3))
    with np.load(tmp_path / "index.npz") as arrays:
        np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["index.npz"]


@pytest.mark.parametrize(
    "error, expected",
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
        (ValueError("a bug"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_fails_half_way_changes_nothing(tmp_path, error, expected):
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(expected) as raised, files.replacing(tmp_path / "a.bin") as temporary:
        temporary.write_bytes(b"half of the new")
        raise error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.bin": b"old"}
    if expected is UserError:
        assert f"'{tmp_path / 'a.bin'}' (No space left on device)" in str(raised.value)


def test_a_full_disk_is_noticed_before_the_old_file_goes(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(UserError, match="No space left"), files.replacing(tmp_path / "a.bin") as f:
        f.symlink_to("/dev/full")
        f.write_bytes(b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.bin": b"old"}


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_folder_that_cannot_be_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"Cannot write to the folder '.*{name}'"):
        files.make_folder(tmp_path / name)
