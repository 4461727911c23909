"""Choice of the reader by a file's content, and explanations of files that are no weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.system.unpack import read_zipped_arrays

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
TIMES, SPARE = 16, 16 << 20  # of an .npz file: most bytes of arrays for a byte of it, and for a small one
WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Read a weight file: .pth/.pt (zip or legacy, without torch), .safetensors, .h5, .npz.

    Half precision comes back as float32. Nothing in the file is executed.

    Raises:
        UserError: the file is missing, empty, cut short, of another kind, or holds objects other
            than tensors and plain containers.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise UserError(
            f"weights {path}: this is a folder; give the file of weights, or the folder of a finished run"
        )
    if not path.is_file():
        raise UserError(f"weights {path}: there is no such file; check the path")
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise UserError(f"weights {path}: the file is empty; download it again")
    # More than one character: a .safetensors file may begin with any byte, "<" too.
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(WEB_PAGE):
        raise UserError(f"weights {path}: this is a web page, not weights; download the file itself")
    try:
        if path.suffix == ".safetensors":
            return _widen(_safetensors(path))
        if start.startswith(HDF5_MAGIC):
            from ttl_jax.weights.readers.hdf5 import read_hdf5

            return _widen(read_hdf5(path))
        if path.suffix == ".keras":
            raise UserError(
                f"weights {path}: Keras 3 archives do not keep the layers' names; write the weights "
                'with model.save("NAME.h5") in Keras'
            )
        if path.suffix == ".npz":
            return _widen(read_zipped_arrays(path, TIMES, SPARE))
        from ttl_jax.weights.readers.torch_pickle import read_torch

        return _widen(read_torch(path))
    except UserError:
        raise
    except Exception as error:  # a reader's own error for a damaged file
        reason = ascii((str(error).splitlines() or [type(error).__name__])[0][:200])[1:-1]
        raise UserError(
            f"weights {path}: not a readable {path.suffix or 'weight'} file ({reason}); "
            "it may be cut short or of another format: download it again"
        ) from None


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _widen(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert float16 and bfloat16 to float32; tied tensors stay one array."""
    wide: dict[int, np.ndarray] = {}
    for value in arrays.values():
        half = value.dtype.itemsize == 2 and value.dtype.kind in "fV" or value.dtype.name == "bfloat16"
        if id(value) not in wide:
            wide[id(value)] = value.astype(np.float32) if half else value
    return {name: wide[id(value)] for name, value in arrays.items()}
