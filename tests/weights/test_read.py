"""Formats other than torch's, and files that are no weights."""

import zipfile

import ml_dtypes
import numpy as np
import pytest

from ttl_jax.errors import UserError
from ttl_jax.weights import read

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3) / 4


def test_safetensors_with_half_precision(tmp_path):
    from safetensors.numpy import save_file

    file = tmp_path / "weights.safetensors"
    save_file(
        {"a": VALUES, "half": VALUES.astype(np.float16), "brain": VALUES.astype(ml_dtypes.bfloat16)}, file
    )
    found = read(file)
    assert set(found) == {"a", "half", "brain"}
    for value in found.values():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, VALUES)


@pytest.mark.parametrize("start", [b" <", b"\n <"])
def test_safetensors_whose_length_looks_like_a_tag_is_no_web_page(tmp_path, start):
    # The file begins with its header's length, little-endian; 0x3C20 bytes are b" <"
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    length = int.from_bytes(start.ljust(8, b"\0"), "little")
    file = tmp_path / "weights.safetensors"
    file.write_bytes(start.ljust(8, b"\0") + header.ljust(length) + np.float32(2.5).tobytes())
    assert read(file)["a"] == 2.5


def test_npz_with_pickled_objects_is_refused(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(UserError, match="weights.npz"):
        read(tmp_path / "weights.npz")


@pytest.mark.parametrize("file", ["weights.h5", "weights.pth"])  # known by its first bytes
def test_h5(tmp_path, file):
    import h5py

    with h5py.File(tmp_path / file, "w") as content:
        content["conv1/conv/conv1/conv/kernel:0"] = VALUES.astype(np.float16)
    found = read(tmp_path / file)
    assert list(found) == ["conv1/conv/conv1/conv/kernel:0"]
    np.testing.assert_array_equal(found["conv1/conv/conv1/conv/kernel:0"], VALUES)


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


NOT_WEIGHTS = {
    "missing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "folder"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "web page": (lambda path: path.write_text("\n<!DOCTYPE html><html><body>404"), "web page"),
    "web page with a byte order mark": (lambda path: path.write_bytes(b"\xef\xbb\xbf<HTML>"), "web page"),
    "text": (lambda path: path.write_text("not found"), "download it again"),
    "zeros": (lambda path: path.write_bytes(b"\0" * 999), "download it again"),
    "another zip": (other_zip, "not one that torch.save wrote"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".h5", ".npz"])
@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_a_file_that_is_no_weights_is_one_sentence(tmp_path, kind, suffix):
    make, said = NOT_WEIGHTS[kind]
    path = tmp_path / f"weights{suffix}"
    make(path)
    if kind == "another zip" and suffix == ".npz":
        pytest.skip("an .npz is a zip of anything")
    if kind == "another zip" and suffix == ".safetensors":
        said = "download it again"
    with pytest.raises(UserError, match=said) as error:
        read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_keras_3_archive_says_how_to_mend_it(tmp_path):
    path = tmp_path / "weights.keras"
    other_zip(path)
    with pytest.raises(UserError, match="h5"):
        read(path)
