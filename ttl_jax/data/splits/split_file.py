"""A split, or folds, kept as JSON, so that every run and every colleague uses the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ttl_jax.data.sources.listing import SPLITS
from ttl_jax.errors import UserError, of_system
from ttl_jax.system.json_object import check_fields, read_object
from ttl_jax.system.whole_file import whole_file


def write_splits(path: str | Path, ids: np.ndarray, splits: np.ndarray, source: str) -> None:
    """Write {"source", "splits": {split: [id, ...]}} in one move, ids in the order of the data.

    Raises:
        UserError: the file cannot be written there.
    """
    _write(path, {"source": source, "splits": {name: ids[splits == name].tolist() for name in SPLITS}})


def write_folds(path: str | Path, ids: np.ndarray, fold_of: np.ndarray, source: str) -> None:
    """Write {"source", "folds": [[id, ...], ...]} in one move; ids of fold -1 stand in none.

    Raises:
        UserError: the file cannot be written there.
    """
    folds = [ids[fold_of == fold].tolist() for fold in range(int(fold_of.max()) + 1)]
    _write(path, {"source": source, "folds": folds})


def read_splits(path: str | Path, ids: np.ndarray, left_out: frozenset[str]) -> np.ndarray:
    """Read the split of each of `ids`, (N,).

    Args:
        path: File written by `write_splits`.
        ids: Ids of the data now, (N,).
        left_out: Ids of images that were skipped as unreadable; the file may name them.

    Raises:
        UserError: not such a file, an id twice, or ids that the data and the file do not share.
    """
    content = _read(path, "splits")
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a split file: 'splits' is a {type(content).__name__}; {_REMEDY}")
    check_fields(path, content, f"; {_REMEDY}", **dict.fromkeys(SPLITS, list))
    lists = {name: [str(item) for item in content[name]] for name in SPLITS}
    return np.array(_places(path, lists, ids, left_out))


def read_folds(path: str | Path, ids: np.ndarray, folds: int, left_out: frozenset[str]) -> np.ndarray:
    """Read the fold of each of `ids`, int (N,).

    Args:
        path: File written by `write_folds`.
        ids: Ids of the data now, (N,), without a test split of its own.
        folds: Number of folds that the file must hold.
        left_out: Ids of images that were skipped as unreadable; the file may name them.

    Raises:
        UserError: as `read_splits`, or another number of folds.
    """
    content = _read(path, "folds")
    if not isinstance(content, list) or len(content) != folds:
        held = len(content) if isinstance(content, list) else 0
        raise UserError(f"{path} holds {held} folds and data.folds={folds}; {_REMEDY}")
    if not all(isinstance(items, list) for items in content):
        raise UserError(f"{path} is not a split file: a fold is a list of ids; {_REMEDY}")
    lists = {number: [str(item) for item in items] for number, items in enumerate(content)}
    return np.array(_places(path, lists, ids, left_out), np.int64)


_REMEDY = "delete the file to split anew, or name another in data.splits"
_Place = TypeVar("_Place", str, int)


def _write(path: str | Path, content: dict[str, Any]) -> None:
    path = Path(path)
    try:
        with whole_file(path) as partial:
            partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise of_system(OSError(error.errno, error.strerror, f"data.splits={str(path)!r}")) from None


def _read(path: str | Path, key: str) -> Any:
    content = read_object(Path(path), _REMEDY)
    if key == "splits" and isinstance(folds := content.get("folds"), list):
        raise UserError(f"{path} holds folds; set data.folds={len(folds)}, or {_REMEDY}")
    if not isinstance(content.get(key), list | dict):
        raise UserError(f"{path} is not a split file: it holds no {key}; {_REMEDY}")
    return content[key]


def _places(
    path: str | Path, lists: dict[_Place, list[str]], ids: np.ndarray, left_out: frozenset[str]
) -> list[_Place]:
    """Return the list that holds each id; every id must stand in exactly one."""
    assigned: dict[str, _Place] = {}
    for name, items in lists.items():
        for item in items:
            if item in assigned:
                raise UserError(f"{path} lists {item!r} twice; {_REMEDY}")
            assigned[item] = name
    unknown = [item for item in ids.tolist() if item not in assigned]
    if unknown:
        raise UserError(
            f"{path} lacks {len(unknown)} of the data's images, the first is {unknown[0]!r}; {_REMEDY}"
        )
    gone = sorted(set(assigned) - set(ids.tolist()) - left_out)
    if gone:
        raise UserError(
            f"{path} lists {len(gone)} images that the data lacks, the first is {gone[0]!r}; {_REMEDY}"
        )
    return [assigned[item] for item in ids.tolist()]
