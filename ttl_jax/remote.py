"""Paths that lie in a bucket (gs://, s3://): read through a local copy, work folders through a mirror.

Everything else in the program works on local files. A work folder is copied here at the start, the
bucket being the truth, and every file that changed is copied back after each checkpoint and at the end:
manifests after all else, so that a bundle in the bucket is whole or passed over.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from ttl_jax.errors import UserError

OWN = ("owner.json",)  # of this machine
MANIFEST = "manifest.json"


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path lies in a bucket."""
    return "://" in os.fspath(path)


def local(path: str) -> str:
    """A path that can be read here: itself, or a copy in the cache of what lies in a bucket.

    Raises:
        UserError: gcsfs is not installed, or there is nothing at that path.
    """
    if not is_remote(path):
        return path
    place = _cache("copies", path) / path.rstrip("/").rsplit("/", 1)[-1]
    pull(_remote(path), place)
    return str(place)


class Mirror:
    """The local folder of a work folder that lies in a bucket."""

    def __init__(self, path: str, there: Any = None) -> None:
        """Fetches what the bucket holds.

        Args:
            path: of the bucket's folder.
            there: the same as an epath, where it is another one's.
        """
        self._there = _remote(path) if there is None else there
        self.folder = _cache("mirror", path)
        if _held(self.folder):
            raise UserError(f"{path} is in use by another process of this machine: wait for it, or stop it")
        shutil.rmtree(self.folder, ignore_errors=True)  # another machine may have gone on since
        self.folder.mkdir(parents=True)
        if self._there.exists():
            pull(self._there, self.folder)
        self._known = _state(self.folder)

    def push(self) -> None:
        """Copies back what is new or changed, and removes what is gone."""
        now = _state(self.folder)
        changed = [name for name, stamp in now.items() if self._known.get(name) != stamp]
        gone = [name for name in self._known if name not in now]
        # A bundle loses its manifest first, and gets it last.
        for name in sorted(gone, key=lambda name: not name.endswith(MANIFEST)):
            (self._there / name).unlink(missing_ok=True)
        for name in sorted(changed, key=lambda name: name.endswith(MANIFEST)):
            target = self._there / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                data = (self.folder / name).read_bytes()
            except FileNotFoundError:  # dropped since it was listed
                continue
            target.write_bytes(data)
        self._known = now


def pull(there: Any, here: Path) -> None:
    """Copies a file or a whole folder; files of the same size are taken as the same.

    Raises:
        UserError: there is nothing at that path.
    """
    if not there.exists():
        raise UserError(f"{there} does not exist, or may not be read: see `python -m ttl_jax doctor`")
    if not there.is_dir():
        here.parent.mkdir(parents=True, exist_ok=True)
        if not here.exists() or here.stat().st_size != there.stat().length:
            part = here.with_name(here.name + ".part")
            part.write_bytes(there.read_bytes())
            part.replace(here)
        return
    here.mkdir(parents=True, exist_ok=True)
    for item in there.iterdir():
        pull(item, here / item.name)


def _held(folder: Path) -> bool:
    """Whether a run works there (see `provenance.alone`)."""
    owner = folder / "owner.json"
    if not owner.exists():
        return False
    with owner.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in OWN and path.suffix not in (".tmp", ".part"):
            stat = path.stat()
            found[str(path.relative_to(folder))] = stat.st_mtime_ns, stat.st_size
    return found


def _cache(kind: str, path: str) -> Path:
    root = os.environ.get("TTL_JAX_CACHE", os.path.expanduser("~/.cache/ttl_jax"))
    return Path(root) / kind / hashlib.sha256(path.rstrip("/").encode()).hexdigest()[:16]


def _remote(path: str) -> Any:
    from etils import epath

    if path.startswith("gs://"):
        try:
            import gcsfs  # noqa: F401
        except ImportError:
            raise UserError(f"{path} needs: pip install -c constraints.txt 'ttl-jax[gcs]'") from None
    return epath.Path(path)
