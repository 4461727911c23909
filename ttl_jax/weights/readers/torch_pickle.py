"""torch.save files without torch: tensors and plain containers, and nothing of the file is run.

Both formats: the zip of torch >= 1.6 (data.pkl beside one file a storage) and the legacy stream
(magic number, protocol, system info, the object, then every storage in turn).
"""

from __future__ import annotations

import io
import math
import mmap
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import ml_dtypes
import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.weights.readers.unpickle import MAX_OPCODES, Name, Other, Unpickler

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32,
    "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}  # fmt: skip
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net")  # keys of training checkpoints
DEPTH = 8  # wrappers in each other
MAX_RANK = 32  # NumPy's, before version 2
VIEWS = 4  # most bytes of distinct views for a byte of storage: tied and sliced tensors take 2


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

    def array(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
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


@dataclass(frozen=True)
class Function:
    """One of the few functions that a file may call."""

    make: Callable[..., Any]


def _whole_numbers(sizes: Any) -> tuple[int, ...]:
    """Return a tensor's sizes or steps, checked."""
    if not isinstance(sizes, tuple) or len(sizes) > MAX_RANK or not all(type(n) is int for n in sizes):
        raise ValueError(f"a tensor's sizes and steps are at most {MAX_RANK} whole numbers; these are none")
    return sizes


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    key, dtype = storage
    (offset,) = _whole_numbers((offset,))
    return Tensor(key, dtype, offset, _whole_numbers(size), _whole_numbers(stride))


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _other(*_: Any) -> Other:
    return Other()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _whole_numbers,
    # Beside the weights in training checkpoints: optimizers' sets, arguments, types, numbers of NumPy.
    **dict.fromkeys(
        ("torch.float32", "torch.float16", "torch.bfloat16", "torch.device", "builtins.set",
         "__builtin__.set", "argparse.Namespace", "pathlib.PosixPath", "_codecs.encode", "numpy.dtype",
         "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
         "lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict",
         "pytorch_lightning.utilities.parsing.AttributeDict"),
        _other,
    ),
}  # fmt: skip


class TorchPickle:
    """Meaning of the names and persistent ids in torch's pickles.

    Attributes:
        path: The file, for messages.
        wanted: Type and length of each storage that was met, by key.
    """

    def __init__(self, path: Path) -> None:
        """Begin with nothing met."""
        self.path = path
        self.wanted: dict[str, tuple[np.dtype, int]] = {}
        self._paired = 0

    def load(self, file: IO[bytes]) -> Any:
        """Read one pickle; raises as `Unpickler.load`, and UserError for a name that is not allowed."""
        return Unpickler(self._named, self._call, self._saved).load(file)

    def _named(self, name: Name) -> Any:
        if name.module == "torch" and name.name in STORAGES:
            return Storage(np.dtype(STORAGES[name.name]))
        full = f"{name.module}.{name.name}"
        if full == "collections.OrderedDict":
            return Function(self._ordered)
        if full in FUNCTIONS:
            return Function(FUNCTIONS[full])
        raise UserError(
            f"weights {self.path}: the file wants to build {name}, and only tensors "
            "and plain containers are read; save model.state_dict() by itself with torch"
        )

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise ValueError("its pickle calls what is no function")
        return function.make(*arguments)

    def _ordered(self, pairs: Any = ()) -> dict[str, Any]:
        """An OrderedDict: empty, or of the pairs that Python 2 wrote."""
        self._paired += len(pairs)  # a list may be given again and again
        if self._paired > MAX_OPCODES or not all(type(key) is str for key, _ in pairs):
            raise ValueError("its pickle has an OrderedDict of too many keys, or of keys that are no text")
        return dict(pairs)

    def _saved(self, saved: Any) -> tuple[str, np.dtype]:
        _, storage, key, _, length, *view = saved
        if view and view[0] is not None:
            raise UserError(f"weights {self.path}: storages that are views are not supported")
        if not isinstance(key, str | int) or type(length) is not int or length < 0:
            raise ValueError("a storage has no key or no length")
        kind = storage.dtype, length
        if self.wanted.setdefault(str(key), kind) != kind:
            raise ValueError("a storage has two types or two lengths")
        return str(key), storage.dtype


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Read the state dict of a torch.save file, out of its usual wrappers; tied tensors are one array."""
    tensors, storages = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    room = VIEWS * sum(data.nbytes for data in storages.values())
    arrays: dict[Tensor, np.ndarray] = {}
    for tensor in tensors.values():
        if tensor not in arrays:
            arrays[tensor] = tensor.array(storages)
            room -= arrays[tensor].nbytes
            if room < 0:
                raise ValueError(
                    f"its tensors overlap: together they are more than {VIEWS} times its numbers"
                )
    return {name: arrays[tensor] for name, tensor in tensors.items()}


def _read_zip(path: Path) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise UserError(f"weights {path}: a zip file, but not one that torch.save wrote")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and _record(archive, f"{root}byteorder") != b"little":
            raise UserError(f"weights {path}: written on a big-endian machine, which is not supported")
        reader = TorchPickle(path)
        tensors = _state_dict(reader.load(io.BytesIO(_record(archive, pickles[0]))), path)
        members = {tensor.storage: f"{root}data/{tensor.storage}" for tensor in tensors.values()}
        # Members may lie on each other in the file.
        if sum(archive.getinfo(member).file_size for member in members.values()) > path.stat().st_size:
            raise ValueError("its storages are larger than the file")
        storages = {}
        for key, member in members.items():
            dtype, length = reader.wanted[key]
            content = _record(archive, member)
            storages[key] = np.frombuffer(content, dtype, count=length) if length else np.zeros(0, dtype)
    return tensors, storages


def _record(archive: zipfile.ZipFile, name: str) -> bytes:
    """A stored member: torch never compresses, and a bomb would have to."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{ascii(name[:100])} is compressed, which torch.save never does")
    return archive.read(name)


def _read_legacy(path: Path) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    # A map: reading stops at the file's end before it takes the memory that a length asks for.
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        file, reader = cast(IO[bytes], mapped), TorchPickle(path)
        if reader.load(file) != MAGIC or reader.load(file) != PROTOCOL:
            raise UserError(f"weights {path}: not a file that torch.save wrote")
        reader.load(file)  # system info
        tensors = _state_dict(reader.load(file), path)
        needed = {tensor.storage for tensor in tensors.values()}
        storages: dict[str, np.ndarray] = {}
        for key in reader.load(file):
            if not isinstance(key, str | int):
                raise ValueError("a storage has no key")
            key = str(key)
            dtype, length = reader.wanted[key]
            if int.from_bytes(file.read(8), "little", signed=True) != length:
                raise UserError(f"weights {path}: storage {ascii(key[:100])} has another length than stated")
            size = length * dtype.itemsize
            if size > len(mapped) - file.tell():
                raise UserError(f"weights {path}: the file is cut short; download it again")
            if key in needed:
                storages[key] = np.frombuffer(file.read(size), dtype)
            else:
                file.seek(size, io.SEEK_CUR)
    return tensors, storages


def _state_dict(value: Any, path: Path) -> dict[str, Tensor]:
    """Find the mapping of names to tensors, possibly inside a checkpoint's wrapper."""
    for _ in range(DEPTH):
        if not isinstance(value, dict):
            break
        # Wrappers first: a checkpoint may hold a tensor (the best accuracy) beside the state dict.
        inner = [value[key] for key in WRAPPERS if isinstance(value.get(key), dict)]
        if not inner:
            tensors = {name: item for name, item in value.items() if isinstance(item, Tensor)}
            if tensors:
                return tensors
            break
        value = inner[0]
    raise UserError(f"weights {path}: no state dict (names to tensors) in this file")
