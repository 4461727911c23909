"""A split kept as JSON, so that every run and every colleague uses the same one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from ttl_jax.data.listing import SPLITS
from ttl_jax.errors import UserError


def write_splits(path: str | Path, ids: np.ndarray, splits: np.ndarray, source: str) -> None:
    """Writes {"source", "splits": {split: [id, ...]}} in one move, ids in the order of the data.

    Raises:
        UserError: the file cannot be written there.
    """
    path = Path(path)
    content = {
        "source": source,
        "splits": {name: ids[splits == name].tolist() for name in SPLITS},
    }
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"data.splits={str(path)!r} cannot be written ({error.strerror})") from None


def read_splits(path: str | Path, ids: np.ndarray, left_out: frozenset[str]) -> np.ndarray:
    """The split of each of `ids`, (N,).

    Args:
        path: written by `write_splits`.
        ids: of the data now.
        left_out: ids that the data had but that were skipped as unreadable.

    Raises:
        UserError: not such a file, an id twice, or ids that the data and the file do not share.
    """
    path = Path(path)
    remedy = "delete the file to split anew, or name another in data.splits"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: [str(item) for item in content["splits"][name]] for name in SPLITS}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a split file ({error!r}); {remedy}") from None
    assigned: dict[str, str] = {}
    for name, items in lists.items():
        for item in items:
            if item in assigned:
                raise UserError(f"{path} lists {item!r} twice; {remedy}")
            assigned[item] = name
    unknown = [item for item in ids.tolist() if item not in assigned]
    if unknown:
        raise UserError(
            f"{path} lacks {len(unknown)} of the data's images, the first is {unknown[0]!r}; {remedy}"
        )
    gone = sorted(set(assigned) - set(ids.tolist()) - left_out)
    if gone:
        raise UserError(
            f"{path} lists {len(gone)} images that the data lacks, the first is {gone[0]!r}; {remedy}"
        )
    return np.array([assigned[item] for item in ids.tolist()])
