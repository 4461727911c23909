"""A scan of outputs for whatever may tell whose images they are of: names, ids, dates, paths.

Texts are compared with what the run's own data hold (ids, groups, a table's identifying columns, DICOM tags)
and with forms that need no list (dates of a day, DICOM person names and UIDs, absolute paths). What stands in
the pixels of an image is not looked for.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import islice
from pathlib import Path

import numpy as np

from ttl_jax.config import DataConfig, data_config
from ttl_jax.config.data import generated
from ttl_jax.data.images.decode import UnreadableImageError
from ttl_jax.data.pseudonyms import DATE, HASHED, identifies, pseudonym
from ttl_jax.data.sources.dicom import identifying_tags
from ttl_jax.data.sources.file_kinds import DICOM
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError
from ttl_jax.training.records import provenance

LONG = 5  # characters of a part of an id that is looked for alone
HEADERS = 2000  # DICOM files whose tags are read
RUN_LENGTH = 6  # printable characters in a row that count as text in a binary file
_WORD = re.compile(r"[^\s\"'<>,;|&(){}\[\]=]+")
_PART = re.compile(r"[^\W_]+", re.UNICODE)
_TEXT_RUN = re.compile(rb"[\x20-\x7e\xc3\x80-\xbf]{%d,}" % RUN_LENGTH)
_DATA = re.compile(  # pictures, and the namespaces of SVG
    r"base64,[A-Za-z0-9+/=]+|https?://(?:www\.w3\.org|purl\.org|creativecommons\.org)[^\s\"'<>]*"
)
_OWN_DAYS = timedelta(days=2)  # a file's own date is no one's
FORMS = {
    "DICOM name": re.compile(r"\b[^\W\d_]{2,}\^[^\W\d_]{2,}"),
    "UID": re.compile(r"(?<![\w.])[0-2](?:\.\d+){6,}(?![\w.])"),
    "path": re.compile(
        r"(?<![\w./<])(?:/(?:home|root|Users|mnt|media|data|srv|work|tmp|var|scratch|Volumes|net|nfs|lustre|gpfs)/"
        r"|[A-Za-z]:\\{1,2}[\w .-]+\\)[^\s\"'<>,;|&]*"
    ),
}
# Two letters about a ^ stand in every 150 kB of random bytes: weights and pictures would never pass.
_IN_NOISE = {"DICOM name": re.compile(r"(?<![^\W\d_])[A-Z][A-Za-z]{3,}\^[A-Z][A-Za-z]{3,}")}


@dataclass(frozen=True)
class Identifying:
    """Occurrences of one kind in a file.

    Attributes:
        file: name within the folder.
        kind: "id", "group", "column NAME", "tag NAME", "date", "path" and so on.
        count: different texts of it.
        first: the first of them, as a hint of what to look for.
    """

    file: str
    kind: str
    count: int
    first: str


def known_texts(folder: Path) -> tuple[dict[str, str], str]:
    """Identifying texts in the data of a run: {text: kind}, and why there is nothing to compare with, if so.

    Args:
        folder: a run's folder; the data are listed, not decoded.
    """
    path = folder / "config.json"
    if not path.is_file():
        return {}, "it is no run, so that its data are not known"
    config = data_config(provenance.begun_with(folder).data)
    if generated(config.name):
        return {}, ""
    try:
        return _texts_of(config), ""
    except UserError as error:
        return {}, f"its data cannot be listed ({error})"


def _texts_of(config: DataConfig) -> dict[str, str]:
    listing = read_listing(replace(config, on_error="skip"))
    classes = {part for name in listing.class_names for part in _PART.findall(name)}
    texts: dict[str, str] = {}
    if not listing.numbered:
        for kind, names in (("group", listing.groups), ("id", listing.ids)):
            texts |= _of_names(names.tolist(), kind, classes)
    for name, cells in listing.columns.items():
        if identifies(cells):
            texts |= _of_names(map(str, cells.tolist()), f"column {name}", classes)
    if config.name == "dicom":
        place = Path(config.root or config.path)
        every = (place if place.is_dir() else place.parent).rglob("*")
        for file in islice(filter(DICOM.accepts, every), HEADERS):
            with suppress(UnreadableImageError):
                for tag, value in identifying_tags(file).items():
                    texts |= _of_names([value], f"tag {tag}", classes)
    return texts


def _of_names(names: Iterable[str], kind: str, classes: set[str]) -> dict[str, str]:
    """The names, and those of their parts that are long enough to be told from other words."""
    every = [name for name in dict.fromkeys(names) if not HASHED.fullmatch(name)]
    texts = {name: kind for name in every if len(name) >= LONG and name not in classes}
    counts: dict[str, int] = {}
    for name in every:
        stem = name.rsplit(".", 1)[0]
        for part in {*_PART.findall(stem), *re.split(r"[\\/\s]+", stem)}:
            counts[part] = counts.get(part, 0) + 1
    common = len(every) / 2  # a word that half of the names share tells nobody apart
    return texts | {
        part: kind
        for part, count in counts.items()
        if len(part) >= LONG and part not in classes and (count <= common or len(every) == 1)
    }


def names_behind(folder: Path) -> list[dict[str, str]]:
    """Names behind the hashes in a run's outputs, found by hashing the names of its data again.

    Raises:
        UserError: no run, or one whose data are gone.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no run: it has no config.json")
    listing = read_listing(replace(data_config(provenance.begun_with(folder).data), on_error="skip"))
    rows = []
    for name, group in zip(listing.ids.tolist(), listing.groups.tolist(), strict=True):
        hashes = {"image": pseudonym(name), "group": pseudonym(group, "group")}
        rows.append({**hashes, "id": name, "group's name": group})
    return rows


def scan(folder: Path, known: Mapping[str, str]) -> list[Identifying]:
    """Look through every file below a folder, and through the files' names.

    Args:
        folder: any folder.
        known: {text: kind} of what identifies, see `known_texts`.
    """
    occurrences = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        own = date.fromtimestamp(path.stat().st_mtime)
        seen: dict[str, dict[str, None]] = {}
        for text, noise in ((name, False), *_texts_in(path)):
            for kind, each in _in_text(text, known, own, noise):
                seen.setdefault(kind, {})[each] = None
        occurrences += [
            Identifying(name, kind, len(texts), next(iter(texts))) for kind, texts in sorted(seen.items())
        ]
    return occurrences


def _in_text(text: str, known: Mapping[str, str], own: date, noise: bool) -> Iterator[tuple[str, str]]:
    """The kinds and texts that identify in a text; noise: it is what happens to be printable in numbers."""
    text = _DATA.sub("", text)
    for line in text.splitlines() if known else ():
        if line in known:
            yield known[line], line
        for word in _WORD.findall(line):
            stripped = word.strip(".:!?")
            for each in (
                stripped,
                stripped.rsplit(".", 1)[0],
                *stripped.split("/"),
                *_PART.findall(stripped),
            ):
                if each in known:
                    yield known[each], each
    for kind, form in (FORMS | _IN_NOISE if noise else FORMS).items():
        yield from ((kind, match[0]) for match in form.finditer(text))
    yield from (("date", match[0]) for match in DATE.finditer(text) if not _near(match[0], own))


def _near(text: str, own: date) -> bool:
    """True where a date is that of the file itself."""
    digits = re.sub(r"\D", "", text)
    try:
        return abs(date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) - own) <= _OWN_DAYS
    except ValueError:
        return False


def _texts_in(path: Path) -> Iterator[tuple[str, bool]]:
    """The texts of a file: its lines, the text arrays of an .npz; with True what is printable of others."""
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                for name in file.files:
                    values = file[name]
                    yield name, False
                    if values.dtype.kind in "US":
                        yield "\n".join(values.astype(str).ravel().tolist()), False
                    elif values.dtype == np.uint8 and values.ndim == 1:  # a text as bytes
                        yield values.tobytes().decode("utf-8", "replace"), False
            return
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            pass  # its bytes
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
        yield _unescaped(text) if path.suffix in (".json", ".jsonl") else text, False
    except UnicodeDecodeError:
        yield "\n".join(each.decode("utf-8", "replace") for each in _TEXT_RUN.findall(content)), True


def _unescaped(text: str) -> str:
    r"""JSON's \u00e9 as the letter it is."""
    if "\\u" not in text:
        return text
    return "\n".join(
        json.dumps(json.loads(line), ensure_ascii=False) if _is_json(line) else line
        for line in ([text] if _is_json(text) else text.splitlines())
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
