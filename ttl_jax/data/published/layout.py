"""Helpers that the readers share: required files, and the rows of a Listing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ttl_jax.data.sources.listing import Listing, make_listing, source
from ttl_jax.errors import UserError

Reader = TypeVar("Reader", bound=Callable[[Path], Listing])


def published(name: str, *reads: str) -> Callable[[Reader], Reader]:
    """Register the reader of a data set's folder as the source of its name; a decorator.

    Args:
        name, reads: Name of the source and the fields that it reads, as for `listing.source`.
    """

    def add(read: Reader) -> Reader:
        source(name, *reads)(lambda config: read(Path(config.path)))
        return read

    return add


def need(path: Path, of: str) -> Path:
    """Return the path, which must exist.

    Raises:
        UserError: it does not.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; data.path must be the folder that {of} was unpacked to")
    return path


def rows(source: Path, files: Sequence[Path]) -> tuple[str, Sequence[Path], list[str], list[str]]:
    """Return `make_listing`'s first arguments for image files under `source`.

    These are the source's name, the images, their places for messages, and their relative paths as ids.

    Args:
        source: Folder of the data set.
        files: One file per example.

    Raises:
        UserError: no files.
    """
    if not files:
        raise UserError(f"{source} holds none of the images expected there; unpack the data set anew")
    where = [str(file) for file in files]
    return str(source), files, where, [file.relative_to(source).as_posix() for file in files]


def class_folders(source: Path, classes: Sequence[tuple[str, Path]], skip: str = "") -> Listing:
    """Return a Listing of class folders.

    Args:
        source: Folder of the data set.
        classes: Pairs of a class name and its folder.
        skip: Files whose stem contains this text are no images of the class (masks).
    """
    from ttl_jax.data.images.decode import ENDINGS

    files: list[Path] = []
    labels: list[int] = []
    for number, (_, folder) in enumerate(classes):
        own = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
        own = [file for file in own if not skip or skip not in file.stem]
        files += own
        labels += [number] * len(own)
    return make_listing(*rows(source, files), np.array(labels), [name for name, _ in classes])
