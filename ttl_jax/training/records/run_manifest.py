"""The manifest of a run: digests of the images, labels, groups, split and weights that it is made from.

A run that is started again compares them: it goes on with the same ones, or is refused in one sentence that
says what is another. WORKDIR/manifest.npz holds them image by image, config.json and every checkpoint a
digest of all. Ids and groups stand in it as hashes.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ttl_jax import strategies, weights
from ttl_jax.config import RunConfig
from ttl_jax.data.dataset import ArrayReader, Dataset, SubsetReader
from ttl_jax.errors import UserError
from ttl_jax.system import remote
from ttl_jax.system.whole_file import whole_file

FILE = "manifest.npz"
UNREAD = ("last", "soup", "start", "features")  # folders of a run that are none of its weights


@dataclass(frozen=True)
class RunManifest:
    """The data that a run is made from, image by image in the order of the hashed ids.

    Attributes:
        ids: hashes of the images' ids, uint64 (N,), rising.
        labels: float32 (N, 1) class numbers, or (N, L) 0, 1 and NaN.
        groups: int64 (N,), place of the first image of each one's group.
        splits: int64 (N,), number of each one's split in `split_names`.
        pixels: digests of the decoded images, uint64 (N,); 0 where one is not known.
        class_names, split_names: their names.
        weights: SHA-256 of the file that the network starts from; "" for none.
        key: digest of the user's key under which ids and groups are hashes; "" where they are not.
        listed: digest of the data as they were listed, see `Origin`.
        path: the data's path, as it was then.
    """

    ids: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    splits: np.ndarray
    pixels: np.ndarray
    class_names: tuple[str, ...]
    split_names: tuple[str, ...]
    weights: str
    key: str
    listed: str
    path: str

    @property
    def digest(self) -> str:
        """Sixteen digits over everything but the path and the listing, which may change."""
        made = hashlib.blake2b(digest_size=8)
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in ("path", "listed"):
                made.update(value.tobytes() if isinstance(value, np.ndarray) else json.dumps(value).encode())
        return made.hexdigest()

    def save(self, folder: Path) -> None:
        """Writes the file as a whole or not at all."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        arrays: dict[str, Any] = {
            name: value for name, value in given.items() if isinstance(value, np.ndarray)
        }
        about = json.dumps({name: value for name, value in given.items() if name not in arrays})
        with whole_file(folder / FILE) as beside, beside.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(about.encode(), np.uint8), **arrays)


def read(folder: Path) -> RunManifest | None:
    """Return the manifest of a run's folder; None where there is none, or none that can be read."""
    try:
        with np.load(folder / FILE) as file:
            given: dict[str, Any] = {name: file[name] for name in file.files}
        about = json.loads(given.pop("about").tobytes())
        given |= {name: tuple(text) if isinstance(text, list) else text for name, text in about.items()}
        return RunManifest(**given)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile, zlib.error):
        return None


def made_from(sets: Mapping[str, Dataset], config: RunConfig) -> RunManifest:
    """Return the manifest of what a run is about to be made from."""
    splits = np.repeat(np.arange(len(sets)), [len(split) for split in sets.values()])
    ids = np.array(hashed_ids(sets)[0], np.uint64)
    order = np.argsort(ids, kind="stable")
    labels = np.concatenate([split.labels.reshape(len(split), -1) for split in sets.values()])
    groups = np.concatenate([split.groups.astype(str) for split in sets.values()])[order]
    pixels = np.concatenate([_pixels(split) for split in sets.values()])
    first = next(iter(sets.values()))
    return RunManifest(
        ids=ids[order],
        labels=labels.astype(np.float32)[order],
        groups=first_of_each(groups),
        splits=splits[order],
        pixels=pixels[order],
        class_names=first.class_names,
        split_names=tuple(sets),
        weights=weights_digest(config),
        key=first.origin.key,
        listed=first.origin.listed,
        path=config.data.path,
    )


def hashed_ids(sets: Mapping[str, Dataset]) -> tuple[list[int], list[str]]:
    """Return the hashes of all images' ids, and the ids."""
    texts = [(name, text) for name, split in sets.items() for text in split.ids.tolist()]
    alone = len({text for _, text in texts}) == len(texts)  # the caller's own sets need not keep to one list
    keys = [text if alone else f"{name}/{text}" for name, text in texts]
    return [_hash(key.encode()) for key in keys], [text for _, text in texts]


def weights_digest(config: RunConfig) -> str:
    """Return the SHA-256 of the file, or of the run, that a run's network starts from; "" for none."""
    source, surgery = config.model.weights, strategies.parse(config.strategy).surgery
    if source == "none" or surgery.init == "scratch":
        return ""
    if remote.is_remote(source) or (Path(source).expanduser() / "config.json").is_file():
        path = Path(remote.local(source, without=UNREAD)).expanduser()
        if path.is_dir():
            return _run_digest(path)
    path = weights.find(source, config.model.name)
    try:
        about = path.stat()
    except OSError:
        raise UserError(f"config model.weights: {path} does not exist") from None
    return _file_digest(path, about.st_size, about.st_mtime_ns)


def _run_digest(folder: Path) -> str:
    """Return the digest of a finished run's weights: of its checkpoints' manifests, which have the files'."""
    made = hashlib.sha256()
    for path in sorted(folder.glob("checkpoints/*/*/manifest.json")):
        if path.parent.parent.name not in UNREAD:
            made.update(path.read_bytes())
    return made.hexdigest()


@lru_cache(maxsize=32)
def _file_digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _pixels(split: Dataset) -> np.ndarray:
    """Digests of a split's images; zeros where they would have to be decoded for it."""
    if split.pixels is not None:
        return split.pixels
    reader, places = split.images, np.arange(len(split))
    if isinstance(split.images, SubsetReader):
        reader, places = split.images.base, split.images.positions
    if not isinstance(reader, ArrayReader):
        return np.zeros(len(split), np.uint64)
    images = reader.images
    return np.array([_hash(images[place].tobytes()) for place in places], np.uint64)


def first_of_each(groups: np.ndarray) -> np.ndarray:
    """Return the place of the first member of each one's group: the same whatever the groups are called."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    return first[number.reshape(-1)]
