"""How the program reads each kind of file, for the process of fuzz.py that reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def weights(path: Path) -> None:
    from ttl_jax.weights.readers.weight_file import read

    read(path)


def image(path: Path) -> None:
    from ttl_jax.data.images.decode import Geometry, decode

    decode(path, Geometry(64))


def dicom(path: Path) -> None:
    from ttl_jax.data.sources.dicom import DicomFrame, read_header

    header = read_header(path)
    for number in {0, header.frames - 1}:
        DicomFrame(path, number, "", 0.0).read()


def nifti(path: Path) -> None:
    from ttl_jax.data.sources.nifti import read_volume

    read_volume(path)


def npy(path: Path) -> None:
    from ttl_jax.data.sources.npy_volume import NpySlice, slices_of
    from ttl_jax.data.sources.window import parse_window

    NpySlice(path, slices_of(path) - 1, parse_window("lung")).read()


def arrays(path: Path) -> None:
    from ttl_jax.data.sources.npz import read_npz

    read_npz(path)


def table(path: Path) -> None:
    from ttl_jax.data.sources.csv_file import read_csv

    read_csv(path)


def video(path: Path) -> None:
    from ttl_jax.data.sources.video import VideoFrame

    VideoFrame(path, 0, 1).read()


READERS: dict[str, Callable[[Path], None]] = {
    reader.__name__: reader for reader in (weights, image, dicom, nifti, npy, arrays, table, video)
}
