"""The sources that data.name may say, and which fields each of them reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ttl_jax.config.data import DataConfig
from ttl_jax.data.bucket import here
from ttl_jax.data.published import BUILDERS
from ttl_jax.data.published.presets import PHANTOM_MODALITIES
from ttl_jax.data.sources.csv_table import read_table
from ttl_jax.data.sources.dicom_listing import read_dicom
from ttl_jax.data.sources.folder import read_folder
from ttl_jax.data.sources.listing import Listing
from ttl_jax.data.sources.nifti import read_nifti
from ttl_jax.data.sources.npz import read_npz
from ttl_jax.data.sources.record import read_record
from ttl_jax.data.sources.tfds import PREFIX, read_tfds
from ttl_jax.errors import UserError, nearest

# Sources of files and arrays, and the fields that name a column (or a DICOM attribute) of each.
LISTINGS: dict[str, Callable[[DataConfig], Listing]] = {
    "folder": lambda config: read_folder(config.path),
    "csv": read_table,
    "npz": lambda config: read_npz(config.path),
    "dicom": read_dicom,
    "nifti": read_nifti,
    "record": lambda config: read_record(config.path),
    **{
        name: lambda config, read=read: read(Path(config.path))  # type: ignore[misc]
        for name, read in BUILDERS.items()
    },
}
PHANTOMS = tuple(f"phantom/{modality}" for modality in PHANTOM_MODALITIES)
SOURCES = (*LISTINGS, *PHANTOMS, f"{PREFIX}NAME")
# What an error shows where nothing is near: families of names by their first part.
_FAMILIES = tuple(
    dict.fromkeys(
        f"{family}/..." if rest else family for family, _, rest in (name.partition("/") for name in SOURCES)
    )
)
# Fields that only some sources read. A group that is silently not looked at would be a leak.
_FIELDS = {
    "group": ("csv", "dicom", "nifti", "tfds"),
    "split": ("csv", "dicom", "nifti"),
    "window": ("dicom", "nifti"),
    "slices": ("dicom", "nifti"),
    "depth": ("dicom", "nifti", "npz", "record", "medmnist", "radfusion"),
    "spacing": ("dicom", "nifti"),
    "plane": ("nifti",),
}


def read_listing(config: DataConfig) -> Listing:
    """The examples that a config names; no image is decoded yet.

    Raises:
        UserError: no such source, or one that generates its images; the source's own faults.
    """
    if config.name.startswith(PREFIX):
        refuse_fields(config, "tfds")
        return read_tfds(config)
    if config.name not in LISTINGS:
        raise UserError(
            f"there is no data source {config.name!r} for data.name"
            f"{nearest(config.name, SOURCES if '/' in config.name else _FAMILIES)}"
        )
    if not config.path:
        raise UserError(f"data.path is empty; name the file or folder that data.name={config.name} reads")
    refuse_fields(config, config.name)
    return LISTINGS[config.name](here(config))


def refuse_fields(config: DataConfig, source: str) -> None:
    """Refuses fields that were set for a source that does not read them."""
    for field, readers in _FIELDS.items():
        value = getattr(config, field)
        if source.partition("/")[0] in readers or value == getattr(DataConfig, field):
            continue
        columns = " names a column and" if field in ("group", "split") else ""
        raise UserError(
            f"data.{field}={value!r}{columns} is read by the sources {', '.join(readers)}, not by {source}; "
            "use one of them, or leave it out"
        )
