"""HDF5 files of weights, as Keras writes them; what the format can do beyond that is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.system.unpack import check_room

if TYPE_CHECKING:
    import h5py

FILTERS = (1, 2, 3, 4, 5, 6, 32000)  # HDF5's own, and h5py's lzf; others are libraries to be loaded
DEPTH = 32  # groups in each other; Keras nests a model in a model
TIMES, SPARE = 16, 16 << 20  # gzip makes a third of pruned weights, not a hundredth


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """Read every array of the file by its path.

    Raises:
        ValueError: a link, virtual, external or unwritten data, text, or sizes out of proportion to the file.
        OSError: no HDF5 file, or damaged.
    """
    import h5py

    with h5py.File(path, "r") as file:
        datasets = dict(_walk(file))
        size = path.stat().st_size
        stored = needed = 0
        for name, data in datasets.items():
            _check_written(data, ascii(name[:100]))
            stored += data.id.get_storage_size()
            needed += data.nbytes
            check_room(needed + _chunk_bytes(data), size, TIMES, SPARE)
        if stored > size:
            raise ValueError("its arrays lie on each other: together they are larger than the file")
        return {name: np.asarray(data) for name, data in datasets.items()}


def _walk(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every array of the file by its path.

    Raises:
        ValueError: a link, which would not be followed (an external one is of another file), an object of two
            names, or groups too deep in each other.
    """
    import h5py

    groups: list[tuple[h5py.Group, str, int]] = [(file, "", 0)]
    met = set()
    while groups:
        group, path, depth = groups.pop()
        for name in group:
            said = ascii(f"{path}{name}"[:100])
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{said} is a link to another place; write the arrays themselves")
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in met or depth > DEPTH:
                raise ValueError(f"{said} has two names in the file, or too many groups above it")
            met.add(place)
            if isinstance(item, h5py.Group):
                groups.append((item, f"{path}{name}/", depth + 1))
            elif isinstance(item, h5py.Dataset):
                yield f"{path}{name}", item


def _check_written(data: h5py.Dataset, name: str) -> None:
    """Refuse an array whose numbers are not in this file."""
    if data.is_virtual or data.external:
        raise ValueError(f"the numbers of {name} are in another file; write them into this one")
    if data.dtype.kind not in "fiubV" or data.dtype.names:
        raise ValueError(f"{name} is no array of numbers")
    properties = data.id.get_create_plist()
    if any(properties.get_filter(n)[0] not in FILTERS for n in range(properties.get_nfilters())):
        raise ValueError(f"{name} is compressed in a way that HDF5 alone cannot read")
    if data.chunks is None:
        missing = data.id.get_storage_size() < data.nbytes
    else:
        sides = (-(-side // chunk) for side, chunk in zip(data.shape, data.chunks, strict=True))
        missing = data.id.get_num_chunks() < math.prod(sides)
    if missing:
        raise ValueError(f"{name} was never written, or in part: the rest would be read as made-up numbers")


def _chunk_bytes(data: h5py.Dataset) -> int:
    """Memory for one chunk, which may be larger than its array."""
    return math.prod(data.chunks or ()) * data.dtype.itemsize if data.chunks else 0
