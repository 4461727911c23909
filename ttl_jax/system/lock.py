"""A file that one process holds at a time, and that says who does."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ttl_jax.errors import UserError


class HeldError(UserError):
    """Another process holds the file: which one, where, and since when."""


@contextmanager
def held(path: Path, *, wait: bool, name: str = "") -> Iterator[None]:
    """Holds a file for this process; the system lets it go when the process ends, however it ends.

    Args:
        path: file to hold; its folder must exist, and the file stays.
        wait: True waits until another process lets the file go. False raises, and the file names its holder.
        name: name of the file in the error; "" takes its folder's.

    Raises:
        HeldError: another process holds it, and this one is not to wait.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            whose = _owner(file.read())
            raise HeldError(f"{name or path.parent} is in use by {whose}: wait for it, or stop it") from None
        file.truncate(0)
        if not wait:  # a lock that is waited for needs no room on the disk
            since = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}) + "\n")
            file.flush()
        yield


def is_held(path: Path) -> bool:
    """Return whether a process holds the file; a file that is not there is held by none."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _owner(record: str) -> str:
    try:
        owner = json.loads(record)
    except ValueError:  # it has only just begun, or had waited
        return "another process"
    return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
