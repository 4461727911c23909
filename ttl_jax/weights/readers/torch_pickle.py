"""torch.save files without torch: an unpickler that can only build tensors and plain containers.

Both formats: the zip of torch >= 1.6 (data.pkl beside one file a storage) and the legacy stream
(magic number, protocol, system info, the object, then every storage in turn).
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from ttl_jax.errors import UserError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}  # fmt: skip
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net")  # keys of training checkpoints


@dataclass(frozen=True)
class Storage:
    """A type of storage, named by torch's class."""

    dtype: np.dtype


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: read only when every storage has been read."""

    storage: str
    dtype: np.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        """Copy the view out of its storage.

        Raises:
            ValueError: it points outside the storage, or is larger than it: a few bytes of pickle
                must not ask for all memory.
        """
        data = storages[self.storage]
        if min((0, self.offset, *self.size, *self.stride)) < 0:
            raise ValueError(f"a tensor of shape {self.size} has negative sizes or steps")
        if 0 in self.size:
            return np.zeros(self.size, data.dtype)
        last = self.offset + sum(
            (length - 1) * step for length, step in zip(self.size, self.stride, strict=True)
        )
        if last >= data.size or math.prod(self.size) > data.size:
            raise ValueError(f"a tensor of shape {self.size} points outside its storage")
        steps = tuple(step * data.itemsize for step in self.stride)
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.size, steps)
        return np.array(view)


def _tensor(
    storage: tuple[Any, ...], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    key, dtype = storage
    return Tensor(key, dtype, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): tuple,
    ("builtins", "set"): set,  # some optimizers keep one
    ("__builtin__", "set"): set,
}


class Restricted(pickle.Unpickler):
    """Refuses every class and function that is not in ALLOWED."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self._path = path
        self.wanted: dict[str, tuple[np.dtype, int]] = {}  # storage key -> type, length

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            # A new one each time: pickle's BUILD may write into what it is given here.
            return Storage(np.dtype(STORAGES[name]))
        if (module, name) not in ALLOWED:
            raise UserError(
                f"weights {self._path}: the file wants to build {module}.{name}, and only tensors "
                "and plain containers are read; save model.state_dict() by itself with torch"
            )
        return ALLOWED[module, name]

    def persistent_load(self, saved: Any) -> tuple[str, np.dtype]:
        _, storage, key, _, length, *view = saved
        if view and view[0] is not None:
            raise UserError(f"weights {self._path}: storages that are views are not supported")
        self.wanted[str(key)] = (storage.dtype, int(length))
        return str(key), storage.dtype


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Read the state dict of a torch.save file, out of its usual wrappers."""
    if zipfile.is_zipfile(path):
        value, storages = _read_zip(path)
    else:
        value, storages = _read_legacy(path)
    return {name: tensor.array(storages) for name, tensor in _state_dict(value, path).items()}


def _read_zip(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise UserError(f"weights {path}: a zip file, but not one that torch.save wrote")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise UserError(f"weights {path}: written on a big-endian machine, which is not supported")
        with archive.open(pickles[0]) as file:
            reader = Restricted(file, path)
            value = reader.load()
        storages = {
            key: np.frombuffer(_record(archive, f"{root}data/{key}"), dtype, count=length)
            if length
            else np.zeros(0, dtype)
            for key, (dtype, length) in reader.wanted.items()
        }
    return value, storages


def _record(archive: zipfile.ZipFile, name: str) -> bytes:
    """A stored member: torch never compresses, and a bomb would have to."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, which torch.save never does")
    return archive.read(name)


def _read_legacy(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    def plain(file: IO[bytes]) -> Any:
        return Restricted(file, path).load()

    with path.open("rb") as file:
        if plain(file) != MAGIC or plain(file) != PROTOCOL:
            raise UserError(f"weights {path}: not a file that torch.save wrote")
        plain(file)  # system info
        reader = Restricted(file, path)
        value = reader.load()
        storages: dict[str, np.ndarray] = {}
        for key in plain(file):
            dtype, length = reader.wanted[str(key)]
            if int.from_bytes(file.read(8), "little", signed=True) != length:
                raise UserError(f"weights {path}: storage {key} has another length than stated")
            data = file.read(length * dtype.itemsize)
            if len(data) != length * dtype.itemsize:
                raise UserError(f"weights {path}: the file is cut short; download it again")
            storages[str(key)] = np.frombuffer(data, dtype)
    return value, storages


def _state_dict(value: Any, path: Path) -> dict[str, Tensor]:
    """Find the mapping of names to tensors, possibly inside a checkpoint's wrapper."""
    if isinstance(value, dict):
        # Wrappers first: a checkpoint may hold a tensor (the best accuracy) beside the state dict.
        for key in WRAPPERS:
            if key in value and isinstance(value[key], dict):
                return _state_dict(value[key], path)
        tensors = {name: item for name, item in value.items() if isinstance(item, Tensor)}
        if tensors and all(isinstance(name, str) for name in tensors):
            return tensors
    raise UserError(f"weights {path}: no state dict (names to tensors) in this file")
