"""Weight files: both torch formats without torch, the others, and files that are none."""

import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from ttl_jax.errors import UserError
from ttl_jax.weights import read

FIXTURES = Path(__file__).parent / "fixtures"
ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.int64)}


@pytest.mark.parametrize("name", ["small.pth", "legacy.pth"])
def test_torch_files_of_both_formats(name):
    expected = np.load(FIXTURES / "expected.npz")
    found = read(FIXTURES / name)
    assert set(found) == set(expected)
    for key, value in found.items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)
        assert value.dtype == (np.int64 if key == "whole" else np.float32)


def test_other_formats(tmp_path):
    save_file(ARRAYS, tmp_path / "x.safetensors")
    np.savez(tmp_path / "x.npz", **ARRAYS)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for key, value in ARRAYS.items():
            file[f"layer/{key}"] = value
    for found in (read(tmp_path / "x.safetensors"), read(tmp_path / "x.npz")):
        assert set(found) == set(ARRAYS) and all(np.array_equal(found[k], ARRAYS[k]) for k in ARRAYS)
    assert np.array_equal(read(tmp_path / "x.h5")["layer/a.weight"], ARRAYS["a.weight"])


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("wrap", ["zip", "bare"])
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, wrap):
    touched, path = tmp_path / "touched", tmp_path / "evil.pth"
    payload = pickle.dumps({"state_dict": Evil(touched)})
    if wrap == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", payload)
    else:
        path.write_bytes(payload)
    with pytest.raises(UserError, match=r"(posix|nt|os)\.system") as caught:
        read(path)
    assert str(path) in str(caught.value) and not touched.exists()
    pickle.loads(payload)  # the payload is real: a plain unpickler would have run it
    assert touched.exists()


def damaged(tmp_path):
    small, legacy = (FIXTURES / "small.pth").read_bytes(), (FIXTURES / "legacy.pth").read_bytes()
    save_file(ARRAYS, tmp_path / "whole.safetensors")
    tensors = (tmp_path / "whole.safetensors").read_bytes()
    with zipfile.ZipFile(tmp_path / "plain.pth", "w") as archive:
        archive.writestr("readme.txt", "no weights here")
    for name, content in {
        "empty.pth": b"", "page.pth": b"\n<!DOCTYPE html><html></html>", "cut_zip.pth": small[:900],
        "cut_legacy.pth": legacy[:-40], "cut_header.pth": legacy[:30], "cut.safetensors": tensors[:-9],
        "text.npz": b"hello", "text.h5": b"hello", "text.pth": b"hello",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    return sorted(path for path in tmp_path.iterdir() if path.name != "whole.safetensors")


def test_files_that_are_no_weights_are_refused_in_one_sentence(tmp_path):
    paths = [*damaged(tmp_path), tmp_path / "missing.pth"]
    assert len(paths) == 11
    for path in paths:
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(path) in str(caught.value), path
        assert "\n" not in str(caught.value), path


def one_tensor(path, offset, size, stride):
    """A torch file, written by hand, of one tensor in a storage of 0..9."""

    def numbers(values):
        return "(" + "".join(f"I{value}\n" for value in values) + "t"

    storage = "(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI10\ntQ"
    arguments = f"{storage}I{offset}\n{numbers(size)}{numbers(stride)}I00\nccollections\nOrderedDict\n)R"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", f"(dVa\nctorch._utils\n_rebuild_tensor_v2\n({arguments}tRs.")
        archive.writestr("x/data/0", np.arange(10, dtype=np.float32).tobytes())
    return path


def test_a_file_whose_tensor_lies_outside_its_storage_is_refused(tmp_path):
    inside = read(one_tensor(tmp_path / "inside.pth", 2, (2, 4), (4, 1)))
    np.testing.assert_array_equal(inside["a"], [[2, 3, 4, 5], [6, 7, 8, 9]])
    path = tmp_path / "outside.pth"
    for place in (
        (3, (2, 4), (4, 1)),
        (-1, (1,), (1,)),
        (9, (4,), (-1,)),
        (0, (11,), (1,)),
        (0, (99,), (0,)),
    ):
        with pytest.raises(UserError, match="outside its storage|negative") as caught:
            read(one_tensor(path, *place))
        assert str(path) in str(caught.value), place


def test_a_tensor_outside_its_storage_is_refused():
    from ttl_jax.weights.readers.torch_pickle import Tensor

    storages = {"0": np.arange(10, dtype=np.float32)}
    inside = Tensor("0", np.dtype("f4"), 2, (2, 4), (4, 1))
    assert inside.array(storages)[1, 3] == 9
    for offset, size, stride in ((3, (2, 4), (4, 1)), (-1, (1,), (1,)), (0, (4,), (-1,)), (0, (11,), (1,))):
        with pytest.raises(ValueError, match="outside its storage|negative"):
            Tensor("0", np.dtype("f4"), offset, size, stride).array(storages)
