"""Registered sources of data.name, the fields that each reads, and the source of a path of no such name."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from ttl_jax import registry
from ttl_jax.config.data import DataConfig
from ttl_jax.data import sources
from ttl_jax.data.bucket import here
from ttl_jax.data.published.presets import PHANTOM_MODALITIES
from ttl_jax.data.sources.file_kinds import KINDS
from ttl_jax.data.sources.listing import READS, Listing, Source
from ttl_jax.data.sources.record import MANIFEST
from ttl_jax.data.sources.tfds import PREFIX, read_tfds
from ttl_jax.errors import UserError, nearest

for _module in iter_modules(sources.__path__, f"{sources.__name__}."):
    import_module(_module.name)  # which registers what it reads

PHANTOMS = tuple(f"phantom/{modality}" for modality in PHANTOM_MODALITIES)
TFDS = Source(read_tfds, ("image", "label", "group"))  # of as many names as TFDS has data sets
TABLES = (".csv", ".tsv", ".txt")
GUESSED = ("folder", "csv", "npz", "dicom", "nifti", "record")  # what can be told from a path alone


def names() -> tuple[str, ...]:
    """Return the values of data.name, besides a file of the user's own."""
    return (*registry.names("source"), *PHANTOMS, f"{PREFIX}NAME")


def source(name: str) -> Source:
    """Return the source of a name.

    Raises:
        UserError: there is none, or one that generates its images.
    """
    if name.startswith(PREFIX):
        return TFDS
    if name not in registry.names("source") and not registry.is_own("source", name):
        families = tuple(f"{first}/..." if rest else first for first, _, rest in map(_parts, names()))
        near = nearest(name, names() if "/" in name else tuple(dict.fromkeys(families)))
        raise UserError(f"there is no data source {name!r} for data.name{near}")
    entry = registry.get("source", name)
    if not callable(entry) and not isinstance(entry, Source):
        raise UserError(f"data source {name!r} is no function (config) -> Listing: see docs/own.md")
    return entry if isinstance(entry, Source) else Source(entry)


def _parts(name: str) -> tuple[str, str, str]:
    return name.partition("/")


def read_listing(config: DataConfig) -> Listing:
    """Return the examples that a config names; no image is decoded yet.

    Raises:
        UserError: no such source, or one that generates its images; the source's own faults.
    """
    reader = source(config.name)
    if not (config.path or reader is TFDS or registry.is_own("source", config.name)):
        raise UserError(f"data.path is empty; name the file or folder that data.name={config.name} reads")
    refuse_fields(config, config.name)
    listing = reader.read(config if reader is TFDS else here(config))
    if not isinstance(listing, Listing):
        raise UserError(f"data source {config.name!r} returns {type(listing).__name__}, not a Listing")
    return listing


def refuse_fields(config: DataConfig, name: str) -> None:
    """Refuse fields that were set for a source that does not read them.

    Args:
        config: The config of the data.
        name: Name of the source, or another word for the data's origin, which reads none of these fields.
    """
    known = registry.is_own("source", name) or name in registry.names("source") or name.startswith(PREFIX)
    reads = source(name).reads if known else ()
    for field in READS:
        value = getattr(config, field)
        if field in reads or value == getattr(DataConfig, field):
            continue
        columns = " names a column and" if field in ("image", "label", "group", "split") else ""
        raise UserError(
            f"data.{field}={value!r}{columns} is read by the sources {', '.join(_readers(field))}, not by "
            f"{name}; use one of them, or leave it out"
        )


def _readers(field: str) -> tuple[str, ...]:
    """Return the sources, or families of them, that read a field."""
    readers = [name for name in registry.names("source") if field in source(name).reads]
    readers += [PREFIX] if field in TFDS.reads else []
    return tuple(dict.fromkeys(_parts(name)[0] for name in readers))


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
