"""Any source of files -> ArrayRecord shards and a manifest: decoded once, checked, hashed.

The folder is made shard by shard. A shard is finished when its note in .resume/ says so: which files
it was made from, and what came of each. So a run that was killed goes on with the shards that are
missing, and a run over a finished folder does nothing, or only the shards whose files have changed.
The same images give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax import remote
from ttl_jax.data.config import DataConfig
from ttl_jax.data.decode import ImageSource, Stack, UnreadableImageError
from ttl_jax.data.encode import encode
from ttl_jax.data.examine import refuse_or_report
from ttl_jax.data.listing import SPLITS, Listing
from ttl_jax.data.load import check
from ttl_jax.data.progress import Progress, progress_lines
from ttl_jax.data.record import FORMAT, MANIFEST, digest, read_manifest
from ttl_jax.data.sources import read_listing
from ttl_jax.errors import UserError

NOTES = ".resume"
# What makes a prepared folder another one.
_SOURCE_FIELDS = (
    "name", "path", "root", "image", "label", "group", "split", "window", "slices", "plane", "spacing",
)  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """Attributes:
    folder: that was written.
    images: in it.
    skipped: images that could not be read.
    size: bytes of all shards.
    made: shards written by this call.
    kept: shards that were there.
    """

    folder: Path
    images: int
    skipped: int
    size: int
    made: int
    kept: int


@dataclass(frozen=True)
class Shard:
    """One shard's work, small enough to send to another process.

    Attributes:
        folder: the prepared folder.
        name: the file's name.
        images: its share of the source.
        fingerprint: of the files it is made from.
    """

    folder: Path
    name: str
    images: Sequence[ImageSource]
    fingerprint: str

    @property
    def note(self) -> Path:
        """The file that says that the shard is finished."""
        return self.folder / NOTES / f"{self.name}.json"


def prepare(
    config: DataConfig, out: str | Path, workers: int | None = None, progress: Progress | None = None
) -> Prepared:
    """Writes a source of files as a folder that `data.name=record` reads.

    Labels, groups and ids, official splits and other columns come out as the source itself gives
    them; images keep their size and lose all metadata. 16-bit images, DICOM frames and NIfTI slices
    are stored as the 8 bits that the source would give, volumes slice by slice.

    Args:
        config: which source; on_error="skip" leaves unreadable images out and counts them.
        out: the folder to write; the same call again goes on or brings it up to date.
        workers: processes; None is one for each core, 1 works in this process.
        progress: called with (done, total) now and then; None prints a line every few seconds.

    Raises:
        UserError: the source's own faults, images that cannot be read (after all others are done),
            or a folder that holds something else.
    """
    check(config)
    if config.name.startswith("phantom/"):
        raise UserError("a phantom has no files to prepare; give data.name=phantom/... to train itself")
    if config.name == "record":
        raise UserError(f"{config.path} is prepared already; train on it with data.name=record")
    if workers is not None and workers < 1:
        raise UserError(f"--workers={workers} is less than one process")
    listing = read_listing(config)
    folder = Path(out)
    _claim(folder, _source(config))
    shards = _plan(listing, folder)
    todo = [shard for shard in shards if not _finished(shard)]
    if todo:
        (folder / MANIFEST).unlink(missing_ok=True)  # it would describe other shards
        _write_all(todo, workers or os.cpu_count() or 1, progress or progress_lines("prepared"))
    notes = [_read_note(shard) for shard in shards]
    faults = {
        start + int(place): fault
        for start, note in zip(_starts(shards), notes, strict=True)
        for place, fault in note["faults"].items()
    }
    try:
        refuse_or_report(listing, faults, config.on_error)
    except UserError as error:
        raise UserError(f"{error}; what was prepared is kept in {folder}") from None
    manifest = _manifest(listing, config, shards, notes, faults)
    _write_json(folder / MANIFEST, {**manifest, "digest": digest(manifest)})
    _sweep(folder, shards)
    return Prepared(
        folder=folder,
        images=len(listing.ids) - len(faults),
        skipped=len(faults),
        size=sum(note["bytes"] for note in notes),
        made=len(todo),
        kept=len(shards) - len(todo),
    )


def _source(config: DataConfig) -> dict[str, Any]:
    source = {name: getattr(config, name) for name in _SOURCE_FIELDS}
    for name in ("path", "root"):
        if source[name] and not remote.is_remote(source[name]):
            source[name] = os.path.abspath(source[name])
    defaults = {item.name: item.default for item in fields(DataConfig)}
    return {name: value for name, value in source.items() if value != defaults[name] or name == "name"}


def _claim(folder: Path, source: dict[str, Any]) -> None:
    """Makes the folder ours, or finds it ours.

    Raises:
        UserError: it holds another source's images or anything else, or cannot be written.
    """
    claim = folder / NOTES / "source.json"
    try:
        found = json.loads(claim.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if folder.is_dir() and any(folder.iterdir()) and not (folder / NOTES).is_dir():
            if not (folder / MANIFEST).is_file():
                raise UserError(f"--out={folder} holds other files; name a new or empty folder") from None
            found = read_manifest(folder)["source"]
        else:
            found = source
    if found != source:
        raise UserError(
            f"--out={folder} was prepared from another source ({_differing(found, source)}); name another "
            "folder, or delete this one"
        )
    try:
        claim.parent.mkdir(parents=True, exist_ok=True)
        if not claim.exists():
            _write_json(claim, source)
    except OSError as error:
        raise UserError(f"--out={folder} cannot be written ({error.strerror})") from None


def _differing(found: Any, source: dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return "its note is damaged"
    for name in _SOURCE_FIELDS:
        if found.get(name) != source.get(name):
            return f"{name} {found.get(name)!r}, now {source.get(name)!r}"
    return "other fields"


def _plan(listing: Listing, folder: Path) -> list[Shard]:
    """Cuts the listing: 64 to 4096 images or slices a shard, and about 64 shards in between."""
    count = len(listing.images)
    records = sum(len(_slices(image)) for image in listing.images)
    each = max(1, min(4096, max(64, -(-records // 64))) * count // records)
    total = -(-count // each)
    pieces = [listing.images[start : start + each] for start in range(0, count, each)]
    return [
        Shard(folder, f"shard-{number:05}-of-{total:05}.array_record", piece, _fingerprint(piece))
        for number, piece in enumerate(pieces)
    ]


def _starts(shards: list[Shard]) -> list[int]:
    return np.cumsum([0] + [len(shard.images) for shard in shards])[:-1].tolist()


def _fingerprint(images: Sequence[ImageSource]) -> str:
    """Changes when an image's file, its size or time, or the way to read it does."""
    digest = hashlib.sha256(FORMAT.encode())
    for image in (part for whole in images for part in _slices(whole)):
        if isinstance(image, np.ndarray):
            digest.update(f"{image.shape}{image.dtype}".encode() + image.tobytes())
            continue
        digest.update(repr(image).encode("utf-8", "surrogateescape"))
        file = image if isinstance(image, Path) else getattr(image, "path", None)
        try:
            state = os.stat(file) if file is not None else None
        except OSError:
            state = None
        digest.update(f"{state.st_size},{state.st_mtime_ns};".encode() if state else b"none;")
    return digest.hexdigest()


def _slices(image: ImageSource) -> Sequence[ImageSource]:
    """What an example's records are: the slices of a volume, or the image."""
    return image.slices if isinstance(image, Stack) else (image,)


def _finished(shard: Shard) -> bool:
    try:
        note = json.loads(shard.note.read_text(encoding="utf-8"))
        size = (shard.folder / shard.name).stat().st_size
        return note["fingerprint"] == shard.fingerprint and note["bytes"] == size
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_note(shard: Shard) -> dict[str, Any]:
    return json.loads(shard.note.read_text(encoding="utf-8"))


def _write_all(shards: list[Shard], workers: int, progress: Progress) -> None:
    total = sum(len(shard.images) for shard in shards)
    if workers == 1 or len(shards) == 1:
        done = 0
        for shard in shards:
            for _ in _write_shard(shard):
                done += 1
                progress(done, total)
        return
    # Not fork: JAX's threads may hold locks.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(
        min(workers, len(shards)), context, initializer=_start_worker, initargs=(counter,)
    ) as pool:
        pending = {pool.submit(_work, shard) for shard in shards}
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                if counter.value:
                    progress(counter.value, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_counter: Any = None  # of a worker process: images done by all of them


def _start_worker(counter: Any) -> None:
    global _counter
    _counter = counter
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A killed parent would leave its workers waiting for ever.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _work(shard: Shard) -> None:
    for _ in _write_shard(shard):
        with _counter.get_lock():
            _counter.value += 1


def _write_shard(shard: Shard) -> Iterator[None]:
    """Writes one shard and its note, yielding after each image; nothing is there until all is."""
    from array_record.python.array_record_module import ArrayRecordWriter

    note: dict[str, Any] = {"fingerprint": shard.fingerprint, "faults": {}}
    for name in ("sha256", "size", "height", "width", "slices"):
        note[name] = []
    with _partial(shard.folder / NOTES / shard.name) as partial:
        # One record a chunk: images are compressed already and read in any order.
        writer = ArrayRecordWriter(str(partial), "group_size:1,uncompressed")
        try:
            for place, image in enumerate(shard.images):
                try:
                    encoded = [encode(part) for part in _slices(image)]
                except UnreadableImageError as error:
                    note["faults"][str(place)] = str(error)
                else:
                    note["slices"].append(len(encoded))
                    for content, (height, width) in encoded:
                        writer.write(content)
                        note["sha256"].append(hashlib.sha256(content).hexdigest())
                        note["size"].append(len(content))
                        note["height"].append(height)
                        note["width"].append(width)
                yield
        finally:
            writer.close()
        with partial.open("rb") as file:
            os.fsync(file.fileno())
            note["file_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        note["bytes"] = partial.stat().st_size
        partial.replace(shard.folder / shard.name)
    _write_json(shard.note, note)


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A name to write under, gone again unless it was moved away."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError on a full disk
        raise UserError(f"{path} cannot be written ({getattr(error, 'strerror', None) or error})") from None
    finally:
        partial.unlink(missing_ok=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with _partial(path) as partial:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)


def _manifest(
    listing: Listing,
    config: DataConfig,
    shards: list[Shard],
    notes: list[dict[str, Any]],
    faults: dict[int, str],
) -> dict[str, Any]:
    kept = listing.take(np.array([i for i in range(len(listing.ids)) if i not in faults], np.int64))
    together = {name: [value for note in notes for value in note[name]] for name in
                ("sha256", "size", "height", "width")}  # fmt: skip
    files = [
        {
            "file": shard.name,
            "records": len(note["sha256"]),
            "bytes": note["bytes"],
            "sha256": note["file_sha256"],
        }
        for shard, note in zip(shards, notes, strict=True)
    ]
    volumes: dict[str, Any] = {}
    if kept.volumes:
        volumes["slices"] = [count for note in notes for count in note["slices"]]
        volumes["millimetres"] = [
            image.millimetres if isinstance(image, Stack) else None for image in kept.images
        ]
    return {
        "format": FORMAT,
        "source": _source(config),
        "images": len(kept.ids),
        "skipped": len(faults),
        "groups": len(set(kept.groups.tolist())),
        "task": listing.task,
        "class_names": list(listing.class_names),
        "class_counts": _class_counts(kept),
        "split_counts": {name: int((kept.splits == name).sum()) for name in SPLITS if name in kept.splits},
        "splits_from": listing.splits_from,
        "shards": files,
        "examples": {
            "id": kept.ids.tolist(),
            "label": _plain(kept.labels),
            "group": kept.groups.tolist(),
            "split": kept.splits.tolist(),
            "sha256": together["sha256"],
            "bytes": together["size"],
            "height": together["height"],
            "width": together["width"],
            **volumes,
        },
        "columns": {name: _plain(values) for name, values in kept.columns.items()},
    }


def _class_counts(listing: Listing) -> dict[str, int]:
    if listing.task == "multilabel":
        counts = (listing.labels == 1).sum(axis=0)
    else:
        counts = np.bincount(listing.labels, minlength=len(listing.class_names))
    return dict(zip(listing.class_names, counts.tolist(), strict=True))


def _plain(values: np.ndarray) -> list[Any]:
    """For JSON, which has no NaN: null."""
    if values.dtype.kind != "f":
        return values.tolist()
    holes = np.isnan(values)
    plain = values.astype(object)
    plain[holes] = None
    return plain.tolist()


def _sweep(folder: Path, shards: list[Shard]) -> None:
    """Removes shards, notes and partial files of an earlier state of the source."""
    names = {shard.name for shard in shards}
    for file in folder.glob("shard-*-of-*.array_record"):
        if file.name not in names:
            file.unlink(missing_ok=True)
    for file in (folder / NOTES).glob("shard-*"):
        if file.name.removesuffix(".json") not in names:
            file.unlink(missing_ok=True)
