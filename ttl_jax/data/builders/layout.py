"""What the readers share: files that must be there, and a Listing from rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ttl_jax.data.listing import Listing, make_listing
from ttl_jax.errors import UserError


def need(path: Path, of: str) -> Path:
    """The path, which must exist.

    Raises:
        UserError: it does not.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; data.path must be the folder that {of} was unpacked to")
    return path


def listing(
    source: Path,
    files: Sequence[Path],
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    splits_from: str = "",
    columns: Mapping[str, np.ndarray] | None = None,
) -> Listing:
    """A Listing of files under `source`; ids are their paths in it.

    Args:
        source: the data set's folder.
        files: one for each example.
        labels: int (N,) or float (N, L).
        class_names: in the order of the labels.
        groups: patients or lesions; None where the owner names none: every image for itself.
        splits: of the owner's own; None where there are none.
        splits_from: what they come from.
        columns: other columns (N,).

    Raises:
        UserError: no files.
    """
    if not files:
        raise UserError(f"{source} holds none of the images expected there; unpack the data set anew")
    return make_listing(
        str(source),
        files,
        [str(file) for file in files],
        [file.relative_to(source).as_posix() for file in files],
        labels,
        class_names,
        groups=groups,
        splits=splits,
        splits_from=splits_from,
        columns=columns,
    )


def class_folders(source: Path, classes: Sequence[tuple[str, Path]], skip: str = "") -> Listing:
    """A Listing of class folders.

    Args:
        source: the data set's folder.
        classes: (class name, its folder).
        skip: files whose stem holds this are no images of the class (masks).
    """
    from ttl_jax.data.decode import ENDINGS

    files: list[Path] = []
    labels: list[int] = []
    for number, (_, folder) in enumerate(classes):
        own = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
        own = [file for file in own if not skip or skip not in file.stem]
        files += own
        labels += [number] * len(own)
    return listing(source, files, np.array(labels), [name for name, _ in classes])
