"""Choice of the source for a path when the user names none."""

from __future__ import annotations

import os
from pathlib import Path

from ttl_jax.data.sources.file_kinds import KINDS
from ttl_jax.data.sources.record import MANIFEST
from ttl_jax.errors import UserError

TABLES = (".csv", ".tsv", ".txt")
GUESSED = ("folder", "csv", "npz", "dicom", "nifti", "record")  # what can be told from a path alone


def guess_source(path: str | Path) -> str:
    """Return the value of data.name for a path, by its ending or its first file of a known kind.

    Raises:
        UserError: nothing there, or nothing known in it.
    """
    path = Path(path)
    if path.suffix.lower() in TABLES and path.is_file():
        return "csv"
    if path.suffix.lower() == ".npz" and path.is_file():
        return "npz"
    if not path.is_dir():
        state = "is no table (.csv, .tsv) and no .npz file" if path.exists() else "does not exist"
        raise UserError(f"{path} {state}; give a folder of class folders, a table or an .npz file")
    if (path / MANIFEST).is_file():
        return "record"
    for place, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            for kind in KINDS:
                if not name.startswith(".") and kind.accepts(Path(place, name)):
                    return kind.source
    for inside in sorted(path.iterdir()):
        if inside.suffix.lower() in (*TABLES, ".npz") or (inside / MANIFEST).is_file():
            raise UserError(f"{path} holds no image, DICOM or NIfTI file but {inside.name}; name {inside}")
    raise UserError(f"{path} holds no image, DICOM or NIfTI file; give the folder above the class folders")
