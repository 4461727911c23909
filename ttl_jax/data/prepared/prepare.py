"""Any source of files -> ArrayRecord shards and a manifest: decoded once, checked, hashed.

The folder is made shard by shard. A shard is finished when its note in .resume/ says so: which files
it was made from, and what came of each. So a run that was killed goes on with the shards that are
missing, and a run over a finished folder does nothing, or only the shards whose files have changed.
The same images give the same bytes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttl_jax.config.data import DataConfig, generated
from ttl_jax.data.load import check
from ttl_jax.data.prepared.manifest import SOURCE_FIELDS, make_manifest, source_fields
from ttl_jax.data.prepared.shard import NOTES, Shard, finished, plan, read_note, starts, write_note
from ttl_jax.data.prepared.shard_workers import write_all
from ttl_jax.data.progress_lines import Progress, progress_lines
from ttl_jax.data.sources.listing import Listing
from ttl_jax.data.sources.record import MANIFEST, digest, read_manifest
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.data.splits.examine import refuse_or_report
from ttl_jax.errors import UserError, of_system
from ttl_jax.system.lock import held


@dataclass(frozen=True)
class Prepared:
    """Outcome of `prepare`.

    Attributes:
        folder: The folder that was written.
        images: Number of images in it.
        skipped: Number of images that could not be read.
        size: Size of all shards in bytes.
        made: Number of shards written by this call.
        kept: Number of shards that an earlier call had finished.
    """

    folder: Path
    images: int
    skipped: int
    size: int
    made: int
    kept: int


def prepare(
    config: DataConfig, out: str | Path, workers: int | None = None, progress: Progress | None = None
) -> Prepared:
    """Write a source of files as a folder that `data.name=record` reads.

    Labels, groups and ids, official splits and other columns come out as the source itself gives
    them; images keep their size and lose all metadata. 16-bit images, DICOM frames and NIfTI slices
    are stored as the 8 bits that the source would give, volumes slice by slice.

    Args:
        config: Names the source. on_error="skip" leaves unreadable images out and counts them.
        out: Folder to write. The same call again resumes the work or brings it up to date.
        workers: Number of processes. None uses one per core; 1 works in this process.
        progress: Called with (done, total) now and then. None prints a line every few seconds.

    Raises:
        UserError: the source's own faults, images that cannot be read (after all others are done),
            a folder that holds something else, or one that another process is at.
    """
    check(config)
    if generated(config.name):
        raise UserError("a phantom has no files to prepare; give data.name=phantom/... to train itself")
    if config.name == "record":
        raise UserError(f"{config.path} is prepared already; train on it with data.name=record")
    if workers is not None and workers < 1:
        raise UserError(f"--workers={workers} is less than one process")
    listing = read_listing(config)
    folder = Path(out)
    _claim(folder, source_fields(config))
    with held(folder / NOTES / "lock", wait=False, name=f"--out={folder}"):
        return _prepare(config, listing, folder, workers, progress)


def _prepare(
    config: DataConfig, listing: Listing, folder: Path, workers: int | None, progress: Progress | None
) -> Prepared:
    """Bring the folder, which is this process's alone, up to date."""
    shards = plan(listing, folder)
    todo = [shard for shard in shards if not finished(shard)]
    if todo:
        # Before any shard is written, so that an interrupted run leaves no manifest.
        (folder / MANIFEST).unlink(missing_ok=True)  # it would describe other shards
        write_all(todo, workers or os.cpu_count() or 1, progress or progress_lines("prepared"))
    notes = [read_note(shard) for shard in shards]
    faults = {
        start + int(place): fault
        for start, note in zip(starts(shards), notes, strict=True)
        for place, fault in note["faults"].items()
    }
    try:
        refuse_or_report(listing, faults, config.on_error)
    except UserError as error:
        raise UserError(f"{error}; what was prepared is kept in {folder}") from None
    manifest = make_manifest(listing, config, shards, notes, faults)
    # The manifest comes after all shards, because it makes the folder readable as a data set.
    write_note(folder / MANIFEST, {**manifest, "digest": digest(manifest)})
    _sweep(folder, shards)
    return Prepared(
        folder=folder,
        images=len(listing.ids) - len(faults),
        skipped=len(faults),
        size=sum(note["bytes"] for note in notes),
        made=len(todo),
        kept=len(shards) - len(todo),
    )


def _claim(folder: Path, source: dict[str, Any]) -> None:
    """Claim the folder, or check that it is claimed already.

    Raises:
        UserError: it holds another source's images or anything else, or cannot be written.
    """
    claim = folder / NOTES / "source.json"
    try:
        claimed = json.loads(claim.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if folder.is_dir() and any(folder.iterdir()) and not (folder / NOTES).is_dir():
            if not (folder / MANIFEST).is_file():
                raise UserError(f"--out={folder} holds other files; name a new or empty folder") from None
            claimed = read_manifest(folder)["source"]
        else:
            claimed = source
    if claimed != source:
        raise UserError(
            f"--out={folder} was prepared from another source ({_differing(claimed, source)}); name another "
            "folder, or delete this one"
        )
    try:
        claim.parent.mkdir(parents=True, exist_ok=True)
        if not claim.exists():
            write_note(claim, source)
    except OSError as error:
        raise of_system(OSError(error.errno, error.strerror, f"--out={folder}")) from None


def _differing(found: Any, source: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return "its note is damaged"
    for name in SOURCE_FIELDS:
        if found.get(name) != source.get(name):
            return f"{name} {found.get(name)!r}, now {source.get(name)!r}"
    return "other fields"


def _sweep(folder: Path, shards: list[Shard]) -> None:
    """Remove shards, notes and partial files of an earlier state of the source."""
    names = {shard.name for shard in shards}
    for file in folder.glob("shard-*-of-*.array_record"):
        if file.name not in names:
            file.unlink(missing_ok=True)
    for file in (folder / NOTES).glob("shard-*"):
        if file.name.removesuffix(".json") not in names:
            file.unlink(missing_ok=True)
    for place in (folder, folder / NOTES):  # of a process that was killed
        for file in place.glob("*.json.*.partial"):
            file.unlink(missing_ok=True)
