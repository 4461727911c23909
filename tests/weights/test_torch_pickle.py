"""torch.save files without torch: real files of both formats, and files that are none."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from ttl_jax.errors import UserError
from ttl_jax.weights import read
from ttl_jax.weights.readers import torch_pickle

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8  # as fixtures/make_checkpoints.py has it


def test_a_training_checkpoint_gives_its_state_dict_and_every_kind_of_tensor(fixtures):
    found = read(fixtures / "checkpoint.pth")
    expected = {
        "float": BASE,
        "half": BASE,
        "brain": BASE,
        "double": BASE.astype(np.float64),
        "long": np.array(7),
        "transposed": BASE.transpose(2, 0, 1),
        "tail": BASE[1],
        "parameter": BASE + 1,
        "parameter_with_state": BASE + 2,
        "empty": np.zeros((0, 3), np.float32),
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("file", ["training.pth", "training_legacy.pth"])
def test_what_training_loops_save_beside_the_weights_is_passed_over(fixtures, file):
    found = read(fixtures / file)
    base = np.arange(24, dtype=np.float32).reshape(4, 6) / 8
    expected = {"a": base, "tied": base, "turned": base.T, "rows": base[1:3], "last": np.ones(2, np.float32)}
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert found["tied"] is found["a"]  # counted, and held, once


def test_a_whole_pickled_model_is_refused_by_the_name_of_its_class(fixtures):
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read(fixtures / "whole_model.pth")


def as_zip(value):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def as_legacy(content):
    """The legacy format around an object's pickle."""
    start = (torch_pickle.MAGIC, torch_pickle.PROTOCOL, {"little_endian": True})
    return b"".join(pickle.dumps(part, protocol=2) for part in start) + content + pickle.dumps([])


def call(module, name, *arguments):
    """A pickle that calls module.name(*arguments), for modules that need not exist here."""
    return f"c{module}\n{name}\n".encode() + pickle.dumps(arguments, protocol=0)[:-1] + b"R."


@pytest.mark.parametrize(
    "module, name",
    [("builtins", "eval"), ("builtins", "getattr"), ("torch.storage", "_load_from_bytes"),
     ("numpy", "load"), ("ttl_jax.weights.readers.torch_pickle", "open"), ("collections", "Counter")],
)  # fmt: skip
def test_nothing_but_tensors_and_plain_containers_can_be_named(tmp_path, module, name):
    file = tmp_path / "weights.pth"
    for content in (call(module, name, "1"), as_legacy(call(module, name, "1"))):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"{module}\.{name}"):
            read(file)


def test_a_legacy_file_cannot_run_a_command(tmp_path):
    target, file = tmp_path / "executed", tmp_path / "weights.pth"
    attack = call("os", "system", f"touch {target}")
    pickle.loads(attack)
    assert target.exists()  # it works on a plain unpickler
    target.unlink()
    file.write_bytes(as_legacy(attack))
    with pytest.raises(UserError, match=r"os\.system"):
        read(file)
    assert not target.exists()


def test_a_file_cannot_change_how_the_next_one_is_read(tmp_path, fixtures):
    file = tmp_path / "weights.pth"
    # pickle's BUILD writes {"dtype": "float64"} into whatever FloatStorage is
    file.write_bytes(b"ctorch\nFloatStorage\n" + pickle.dumps({"dtype": "float64"}, protocol=0)[:-1] + b"b.")
    with pytest.raises(UserError):
        read(file)
    np.testing.assert_array_equal(read(fixtures / "checkpoint.pth")["float"], BASE)


def rewritten(path, change):
    """A zip checkpoint with its members passed through `change`(name, content)."""
    file = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return file.getvalue()


def huge(name, content):
    """The first tensor's size (2, 3, 4) becomes (2**31 - 1, 3, 4), its steps 0: terabytes of it."""
    old = b"K\x02K\x03K\x04\x87"
    assert not name.endswith("data.pkl") or old in content
    return (
        content.replace(old, b"J\xff\xff\xff\x7fK\x03K\x04\x87", 1) if name.endswith("data.pkl") else content
    )


DAMAGE = {
    "a storage is missing": lambda name, content: None if name.endswith("/data/1") else content,
    "a storage is short": lambda name, content: content[:40] if "/data/" in name else content,
    "a tensor is larger than its storage": huge,
    "big-endian": lambda name, content: b"big" if name.endswith("byteorder") else content,
    "no pickle": lambda name, content: None if name.endswith("data.pkl") else content,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_zip_is_one_sentence(tmp_path, fixtures, kind):
    file = tmp_path / "weights.pth"
    file.write_bytes(rewritten(fixtures / "checkpoint.pth", DAMAGE[kind]))
    with pytest.raises(UserError, match=r"weights .*weights\.pth") as error:
        read(file)
    assert "\n" not in str(error.value)


def test_compressed_storages_are_refused(tmp_path, fixtures):
    file = tmp_path / "weights.pth"
    with zipfile.ZipFile(fixtures / "checkpoint.pth") as old:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    with pytest.raises(UserError, match="compressed"):
        read(file)


@pytest.mark.parametrize("source", ["checkpoint.pth", "legacy.pth"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.97])
def test_a_truncated_file_is_one_sentence(tmp_path, fixtures, source, share):
    content = (fixtures / source).read_bytes()
    file = tmp_path / "weights.pth"
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match="download it again") as error:
        read(file)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_a_state_dict_says_so(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(as_zip({"epoch": 3, "loss": 0.5}))
    with pytest.raises(UserError, match="no state dict"):
        read(file)
