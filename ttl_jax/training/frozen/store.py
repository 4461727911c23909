"""Stores of frozen features: in memory, in a run's file, or in a folder that runs share.

A sweep's probes, seeds and learning rates stand on the same frozen units: whichever worker needs their
outputs first computes them, under a lock, and all others map the file into memory. Knows NumPy only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ttl_jax.system.lock import held

Fill = Callable[[np.ndarray], None]
# shape, type, and the function that fills an array of these -> the filled array
Hold = Callable[[tuple[int, ...], np.dtype, Fill], np.ndarray]


def in_memory(shape: tuple[int, ...], dtype: np.dtype, fill: Fill) -> np.ndarray:
    """A filled array of this process's own."""
    array = np.empty(shape, dtype)
    fill(array)
    return array


def in_file(path: Path) -> Hold:
    """Holds an array in a file of the run's own (.npy, mapped into memory)."""

    def hold(shape: tuple[int, ...], dtype: np.dtype, fill: Fill) -> np.ndarray:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # that of the phase before may still be mapped
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        fill(array)
        return array

    return hold


def _mapped(file: Path) -> np.ndarray:
    array: np.ndarray = np.load(file, mmap_mode="r")
    return array


@dataclass(frozen=True)
class FeatureStore:
    """A folder of arrays, KEY.npy, that several processes fill and read.

    A key names all that enters an array (see `prefix.digest`). An array is written beside its place and
    renamed when whole: a kill leaves a KEY.part that the next one writes over. What was used least recently
    gives way; a process that has it mapped keeps it.

    Attributes:
        folder: the store; on a file system that knows flock several machines may share it.
        limit: bytes that all arrays may take together.
    """

    folder: Path
    limit: float

    def hold(self, key: str) -> Hold:
        """Holds the array of that key, read-only; filled only where no process has done so before."""

        def hold(shape: tuple[int, ...], dtype: np.dtype, fill: Fill) -> np.ndarray:
            whole, part = self.folder / f"{key}.npy", self.folder / f"{key}.part"
            self.folder.mkdir(parents=True, exist_ok=True)
            # A second process waits for the first one's array.
            with held(self.folder / f"{key}.lock", wait=True):
                try:
                    os.utime(whole)
                    return _mapped(whole)
                except FileNotFoundError:
                    pass
                except (ValueError, EOFError, OSError):
                    print(f"{whole} cannot be read: it is computed again", flush=True)
                array = self._room_for(part, shape, dtype)
                if array is None:
                    return in_memory(shape, dtype, fill)
                fill(array)
                array.flush()  # onto the disk before the rename, so that a power cut leaves no holes
                del array  # unmapped: what was written is the file's
                part.replace(whole)
                return _mapped(whole)

        return hold

    def _room_for(self, part: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap | None:
        """Makes the file, of its whole length at once, so that others count it; the oldest arrays go.

        None where the disk has no room: a file with holes in it would end the process once it is full.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with held(self.folder / "room.lock", wait=True):
            part.unlink(missing_ok=True)
            files = {path: path.stat() for path in self.folder.iterdir() if path.suffix in (".npy", ".part")}
            taken = sum(known.st_size for known in files.values())
            arrays = [path for path in files if path.suffix == ".npy"]
            for path in sorted(arrays, key=lambda path: files[path].st_mtime):
                if taken + size <= self.limit:
                    break
                path.unlink(missing_ok=True)
                taken -= files[path].st_size
            array = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
            try:
                with part.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
            except OSError as error:
                print(f"{self.folder}: {error.strerror}; features are held in memory", flush=True)
                part.unlink()
                return None
            return array
