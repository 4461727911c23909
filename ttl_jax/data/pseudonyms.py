"""Names of images and patients as they may be handed on: keyed hashes, and columns that tell nobody apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ttl_jax.data.dataset import Dataset
from ttl_jax.data.patient_key import hashed
from ttl_jax.typing import Shaped

# A date of a day, in the order of ISO, DICOM, Europe or America.
DATE = re.compile(
    r"(?<![0-9A-Za-z])(?<!\d\.)((19|20)\d\d([-/.]?)(0[1-9]|1[0-2])\3(0[1-9]|[12]\d|3[01])"
    r"|(0?[1-9]|[12]\d|3[01])[-/.](0?[1-9]|[12]\d|3[01])[-/.](19|20)\d\d)(?![0-9A-Za-z]|\.\d)"
)
HASHED = re.compile(r"[a-z]+-[0-9a-f]{20}")  # as a source has hidden a name already
_NUMBER = re.compile(r"-?\d{0,5}(\.\d+)?")  # longer ones are numbers of patients and examinations
SHARE = 0.5  # of different texts in a column from which they are names, not groups
FEW = 10  # texts that may all differ: a table of so few rows has no groups


def pseudonym(name: str, kind: str = "image") -> str:
    """A name that stands for an image or a group: equal ones for equal names, and no way back."""
    return name if HASHED.fullmatch(name) else f"{kind}-{hashed(name)}"


def pseudonymous(split: Dataset) -> Dataset:
    """A split as outputs may name it: ids and groups hashed.

    Data whose names are kept (`Origin.kept_names`: data.keep_ids, generated images, numbered arrays, sets
    that the caller made) stay as they are.
    """
    if split.origin.kept_names:
        return split
    return replace(
        split,
        ids=np.array([pseudonym(each) for each in split.ids.tolist()], np.str_),
        groups=np.array([pseudonym(each, "group") for each in split.groups.tolist()], np.str_),
    )


def shareable(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of a whole table that tell nobody apart."""
    return {name: cells for name, cells in columns.items() if not identifies(cells)}


def identifies(cells: Shaped[np.ndarray, "n"] | Sequence[object]) -> bool:
    """True where a column may tell whom a row is of: dates, or mostly texts or long numbers of their own."""
    texts = [text for text in map(str, np.asarray(cells).tolist()) if text]
    different = set(texts)
    if any(DATE.search(text) for text in different):
        return True
    names = [text for text in different if not _NUMBER.fullmatch(text)]
    return len(names) > FEW and len(names) > SHARE * len(texts)
