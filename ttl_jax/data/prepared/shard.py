"""One ArrayRecord file of a prepared folder: its share of the images, how it is written, and its note.

A shard is finished when its note in .resume/ says so: which files it was made from, and what came of each.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.data.images.decode import ImageSource, Stack, UnreadableImageError
from ttl_jax.data.images.encode import encode
from ttl_jax.data.sources.listing import Listing
from ttl_jax.data.sources.record import FORMAT, digest
from ttl_jax.errors import of_system, system_error

NOTES = ".resume"


@dataclass(frozen=True)
class Shard:
    """One shard's work, small enough to send to another process.

    Attributes:
        folder: The prepared folder.
        name: Name of the shard's file.
        images: The images of the source that the shard holds.
        fingerprint: Digest of the files that the shard is made from.
    """

    folder: Path
    name: str
    images: Sequence[ImageSource]
    fingerprint: str

    @property
    def note(self) -> Path:
        """The file that says that the shard is finished."""
        return self.folder / NOTES / f"{self.name}.json"


def plan(listing: Listing, folder: Path) -> list[Shard]:
    """Cut the listing: 64 to 4096 images or slices a shard, and about 64 shards in between."""
    count = len(listing.images)
    records = sum(len(_slices(image)) for image in listing.images)
    each = max(1, min(4096, max(64, -(-records // 64))) * count // records)
    total = -(-count // each)
    pieces = [listing.images[start : start + each] for start in range(0, count, each)]
    return [
        Shard(folder, f"shard-{number:05}-of-{total:05}.array_record", piece, _fingerprint(piece))
        for number, piece in enumerate(pieces)
    ]


def starts(shards: list[Shard]) -> list[int]:
    """Return the position in the source of each shard's first image."""
    return np.cumsum([0] + [len(shard.images) for shard in shards])[:-1].tolist()


def _fingerprint(images: Sequence[ImageSource]) -> str:
    """Return a digest that changes with an image's file, its size or time, or the way to read it."""
    made_from = hashlib.sha256(FORMAT.encode())
    for image in (part for whole in images for part in _slices(whole)):
        if isinstance(image, np.ndarray):
            made_from.update(f"{image.shape}{image.dtype}".encode() + image.tobytes())
            continue
        made_from.update(repr(image).encode("utf-8", "surrogateescape"))
        file = image if isinstance(image, Path) else getattr(image, "path", None)
        try:
            state = os.stat(file) if file is not None else None
        except OSError:
            state = None
        made_from.update(f"{state.st_size},{state.st_mtime_ns};".encode() if state else b"none;")
    return made_from.hexdigest()


def _slices(image: ImageSource) -> Sequence[ImageSource]:
    """Return the images of an example's records: the slices of a volume, or the image itself."""
    return image.slices if isinstance(image, Stack) else (image,)


def finished(shard: Shard) -> bool:
    """Return True if the shard is as it was written, from the files as they are now; its hash is checked."""
    path = shard.folder / shard.name
    try:
        note = read_note(shard)
        if note["fingerprint"] != shard.fingerprint or note["bytes"] != path.stat().st_size:
            return False
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == note["file_sha256"]
        if not whole or note.pop("digest", None) not in (None, digest(note)):  # none in older notes
            print(f"{path} or its note is not as it was written; it is written anew", flush=True)
            return False
        return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def read_note(shard: Shard) -> dict[str, Any]:
    """Read a finished shard's note: hashes and sizes of its records, and the faults by place in it."""
    return json.loads(shard.note.read_text(encoding="utf-8"))


def write_shard(shard: Shard) -> Iterator[None]:
    """Write one shard and its note, yielding after each image; the file appears only when complete."""
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
        # Onto the disk before the rename, so that a crash leaves no partial shard under the final name.
        with partial.open("rb") as file:
            os.fsync(file.fileno())
            note["file_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        note["bytes"] = partial.stat().st_size
        partial.replace(shard.folder / shard.name)
    # The note comes last, because it marks the shard as finished.
    write_note(shard.note, {**note, "digest": digest(note)})


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write under; the file is deleted unless it was moved away."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError on a full disk
        refused = system_error(error) or OSError(0, str(error))
        raise of_system(OSError(refused.errno, refused.strerror, str(path))) from None
    finally:
        partial.unlink(missing_ok=True)


def write_note(path: Path, content: dict[str, Any]) -> None:
    """Write a note or the manifest, whole or not at all; raise UserError if it cannot be written."""
    with _partial(path) as partial:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(path)
