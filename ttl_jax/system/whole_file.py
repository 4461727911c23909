"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HALF = re.compile(r"\.\d+-\d+\..+")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a file beside `path`, of its ending, that takes its place unless something is raised.

    The folder is made. The name is the thread's own: two may write the same file, and the last one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}-{threading.get_ident()}.{path.name}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def is_half(path: Path) -> bool:
    """Return whether a file is one that `whole_file` is writing, or that a kill has left."""
    return _HALF.fullmatch(path.name) is not None


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(json.dumps(value, indent=1) + "\n")
