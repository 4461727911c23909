"""The folder that `prepare` writes: ArrayRecord shards and manifest.json; the source `record`.

Each record is the bytes of one PNG or JPEG file. All else is in the manifest: a JSON object with
"examples", lists of one length with the id, label (null is unknown), group, split, sha256, bytes,
height and width of each image, in the order of the records. Volumes have "slices", how many records each
is, and "millimetres", of a voxel along slices, rows and columns (null is unknown); their sha256, bytes,
height and width are of the slices. "drawn_by" is "content" where groups are hashes under the key of whoever
prepared the folder: a split is drawn by the sha256 of each one's images then. "digest" is `digest` of all the
rest.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttl_jax.data.images.decode import Stack, UnreadableImageError, read_stream, reason
from ttl_jax.data.sources.listing import Listing, source
from ttl_jax.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

MANIFEST = "manifest.json"
FORMAT = "ttl_jax record 1"


@dataclass(frozen=True)
class RecordImage:
    """One record of a shard as a Picture.

    Attributes:
        path: The shard.
        number: Position of the record in the shard.
    """

    path: Path
    number: int

    def read(self) -> Image:
        """The image as "L", "RGB" or "RGBA".

        Raises:
            UnreadableImageError: the shard is missing or damaged.
        """
        try:
            (content,) = _open_shard(self.path, self.path.stat().st_mtime_ns).read([self.number])
        except Exception as error:  # array_record raises RuntimeError, IndexError and ValueError
            raise UnreadableImageError(f"is damaged ({reason(error)})") from None
        return read_stream(io.BytesIO(content))


@lru_cache(maxsize=256)
def _open_shard(path: Path, changed: int) -> Any:
    """Return an open shard; threads may read it at the same time, and each chunk's hash is checked."""
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(str(path), "readahead_buffer_size:0")


def read_record(folder: str | Path) -> Listing:
    """List the examples of a prepared folder.

    Raises:
        UserError: not such a folder, not finished, or a shard that is not as it was written.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        images: list[RecordImage] = []
        for shard in manifest["shards"]:
            path = folder / shard["file"]
            _check_shard(path, int(shard["bytes"]))
            images += [RecordImage(path, number) for number in range(int(shard["records"]))]
        examples = manifest["examples"]
        each = _examples(images, examples)
        multilabel = manifest["task"] == "multilabel"
        labels = np.array(examples["label"], np.float32 if multilabel else np.int32)
        listing = Listing(
            source=str(folder),
            images=each,
            where=[_where(image, name) for image, name in zip(each, examples["id"], strict=True)],
            labels=labels.reshape(len(each), -1) if multilabel else labels,
            ids=np.array(examples["id"]),
            groups=np.array(examples["group"]),
            class_names=tuple(manifest["class_names"]),
            task=manifest["task"],
            splits=np.array(examples["split"], dtype="U5"),
            splits_from=manifest["splits_from"],
            columns={name: _column(values) for name, values in manifest["columns"].items()},
            drawn_by=_contents(examples) if manifest.get("drawn_by") == "content" else None,
        )
        skipped = int(manifest["skipped"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({error!r}); run prepare again") from None
    if skipped:
        print(f"{folder}: {skipped} images of the source could not be read and are not in it", flush=True)
    return listing


def _examples(images: list[RecordImage], examples: dict[str, Any]) -> list[RecordImage | Stack]:
    """Return the images, or the volumes whose slices they are."""
    if "slices" not in examples:
        return list(images)
    ends = np.cumsum(examples["slices"]).tolist()
    if ends[-1:] != [len(images)]:
        raise ValueError(f"{len(images)} records for {ends[-1:]} slices")
    sizes = [None if size is None else tuple(size) for size in examples["millimetres"]]
    return [
        Stack(tuple(images[end - count : end]), size)
        for end, count, size in zip(ends, examples["slices"], sizes, strict=True)
    ]


def _contents(examples: dict[str, Any]) -> np.ndarray:
    """Return a name for each example's group that is made of its images alone, (N,) text."""
    counts = examples["slices"] if "slices" in examples else [1] * len(examples["group"])
    hashes = iter(examples["sha256"])
    held: dict[str, list[str]] = defaultdict(list)
    for group, count in zip(examples["group"], counts, strict=True):
        held[group] += islice(hashes, count)
    names = {group: digest({"sha256": sorted(own)}) for group, own in held.items()}
    return np.array([names[group] for group in examples["group"]])


def _where(image: RecordImage | Stack, name: str) -> str:
    first = image.slices[0] if isinstance(image, Stack) else image
    assert isinstance(first, RecordImage)
    return f"{first.path}, record {first.number} ({name})"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a prepared folder.

    Raises:
        UserError: none there, or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder} is no finished prepared folder (no {MANIFEST}); run: ttl-jax prepare SOURCE "
            f"--out={folder}"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); run prepare again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not a manifest of the format {FORMAT!r}; run prepare again")
    if manifest.pop("digest", "") != digest(manifest):
        raise UserError(f"{path} is not as it was written; run the same prepare command again to mend it")
    return manifest


def digest(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of the manifest as JSON with sorted keys, to detect damaged labels."""
    text = json.dumps(manifest, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_shard(path: Path, size: int) -> None:
    actual = path.stat().st_size if path.is_file() else -1
    if actual != size:
        state = "is missing" if actual < 0 else f"has {actual} bytes instead of {size}"
        raise UserError(f"{path} {state}; run the same prepare command again to make it anew")


def _column(values: list[Any]) -> np.ndarray:
    """Text, or float64 with NaN for null."""
    if all(isinstance(value, str) for value in values):
        return np.array(values)
    return np.array([np.nan if value is None else value for value in values], np.float64)


source("record", "depth")(lambda config: read_record(config.path))
