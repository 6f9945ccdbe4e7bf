import builtins
import pathlib
import pickle
import resource
import signal
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from pinet_jax.errors import UserError
from pinet_jax.weights.torch_files import read_state_dict, unwrap, write_state_dict

STATE_DICT = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn1.running_var": np.array([0.1, np.pi], np.float32),
    "bn1.num_batches_tracked": np.array(7, np.int64),
}


def assert_same(got, want):
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape
        np.testing.assert_array_equal(got[name], array)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="pickled files need PyTorch, which is not installed")


@pytest.fixture
def no_torch(monkeypatch):
    """Whether it is installed or not."""
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "torch":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_safetensors_come_back_without_pytorch(tmp_path, no_torch):
    write_state_dict(tmp_path / "weights.safetensors", STATE_DICT)
    assert_same(read_state_dict(tmp_path / "weights.safetensors"), STATE_DICT)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize("name", ["w.pth", "w.pth.tar", "w.pt", "w.bin"])
def test_pickled_files_come_back(tmp_path, torch, name):
    write_state_dict(tmp_path / name, STATE_DICT)
    assert torch.load(tmp_path / name, weights_only=True).keys() == STATE_DICT.keys()
    assert_same(read_state_dict(tmp_path / name), STATE_DICT)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_wrappers_are_taken_off(tmp_path, torch):
    tensors = {"module." + n: torch.from_numpy(x) for n, x in STATE_DICT.items()}
    for number, loaded in enumerate([tensors, {"epoch": 3, "state_dict": tensors}]):
        path = tmp_path / f"{number}.pth.tar"
        torch.save(loaded, path)
        assert_same(read_state_dict(path), STATE_DICT)
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(read_state_dict(tmp_path / "old.pth"), STATE_DICT)
    save_file({"module.a": np.ones(2)}, tmp_path / "a.safetensors")
    assert list(read_state_dict(tmp_path / "a.safetensors")) == ["a"]


def test_bfloat16_is_read_as_float32(tmp_path):
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    content = struct.pack("<Q", len(header)) + header + array.tobytes()
    (tmp_path / "a.safetensors").write_bytes(content)
    assert_same(read_state_dict(tmp_path / "a.safetensors"), {"a": array.astype(np.float32)})


def test_trained_and_bfloat16_tensors(tmp_path, torch):
    parameter = torch.nn.Parameter(torch.tensor([1.5, -2], dtype=torch.bfloat16))
    torch.save({"a": parameter}, tmp_path / "a.pth")
    assert_same(read_state_dict(tmp_path / "a.pth"), {"a": np.array([1.5, -2], np.float32)})


def test_unwrap_keeps_an_entry_that_is_only_called_so():
    entries = {"state_dict": np.ones(2), "module.b": np.zeros(1)}
    assert unwrap(entries).keys() == {"state_dict", "b"}


def test_a_pickled_file_without_pytorch_says_how_to_go_on(tmp_path, no_torch):
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(UserError, match=r"w\.pth.*pip install torch"):
        read_state_dict(tmp_path / "w.pth")
    with pytest.raises(UserError, match="pip install torch"):
        write_state_dict(tmp_path / "new.pth", STATE_DICT)
    assert not (tmp_path / "new.pth").exists()


class Attack:
    def __reduce__(self):
        return (pathlib.Path.touch, (pathlib.Path("attacked"),))


def test_no_code_of_a_pickled_file_is_run(tmp_path, torch, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(2), "b": Attack()}, "w.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Attack()))
    for name in ("w.pth", "plain.pth"):
        with pytest.raises(UserError, match=rf"{name}' holds more than tensors"):
            read_state_dict(name)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {"a": 1}}, {}])
def test_files_without_a_state_dict(tmp_path, torch, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth' holds no state dict"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 cut"])
def test_damaged_pickled_files(tmp_path, torch, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.pth") as error:
        read_state_dict(tmp_path / "w.pth")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x10" + bytes(7) + b"{}"])
def test_damaged_safetensors(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors' is no readable safetensors file"):
        read_state_dict(tmp_path / "w.safetensors")


def test_names_that_say_nothing_and_files_that_are_not_there(tmp_path):
    for call in (read_state_dict, lambda path: write_state_dict(path, STATE_DICT)):
        with pytest.raises(UserError, match="must end in one of"):
            call(tmp_path / "weights.npz")
    with pytest.raises(UserError, match="No file"):
        read_state_dict(tmp_path / "weights.safetensors")


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot write"):
        write_state_dict(tmp_path / "file" / "w.safetensors", STATE_DICT)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"Cannot write '.*w.safetensors'"):
            write_state_dict(path, {"a": np.zeros(10_000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"w.safetensors": b"old"}
