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


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_folder_that_cannot_be_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"Cannot write to the folder '.*{name}'"):
        files.make_folder(tmp_path / name)
