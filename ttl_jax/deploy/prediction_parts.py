"""The parts of a table of predictions on disk: each appears whole, with the hash of its rows.

A part is a file of JSON lines: the first says how far it goes, the others are a row each.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ttl_jax.deploy.predict import Row
from ttl_jax.system.whole_file import whole_file

_PART = "part-{:06d}.jsonl"


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.jsonl"))


def write_part(folder: Path, number: int, about: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write a part as a whole or not at all: a line with the hash of the others, and a line a row."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    with (
        whole_file(folder / _PART.format(number)) as beside,
        beside.open("w", encoding="utf-8") as file,
    ):
        file.write(json.dumps({**about, "sha256": hashlib.sha256(lines.encode()).hexdigest()}) + "\n" + lines)
        file.flush()
        os.fsync(file.fileno())


def whole_parts(folder: Path) -> list[Path]:
    """The parts as they were written, up to the first that is broken or gone; those after it are removed."""
    count = 0
    while _is_whole(folder / _PART.format(count)):
        count += 1
    parts = _parts(folder)
    if after := parts[count:]:
        broken = folder / _PART.format(count)
        print(f"{broken} is broken or gone: it is made again, and what came after it", flush=True)
        for part in after:
            part.unlink()
    return parts[:count]


def _is_whole(part: Path) -> bool:
    try:
        head, lines = part.read_bytes().split(b"\n", 1)
        return bool(json.loads(head)["sha256"] == hashlib.sha256(lines).hexdigest())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def part_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a part: its head, then its rows."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def part_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all parts, in order."""
    for part in _parts(folder):
        rows = part_lines(part)
        next(rows)
        yield from rows
