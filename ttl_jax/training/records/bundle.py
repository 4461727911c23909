"""The seal of a checkpoint's folder, its bundle.

Its manifest.json, written last, holds the size and SHA-256 of every file: a bundle without one was never
finished, and one that disagrees with it is broken (Orbax restores flipped bits without a word).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ttl_jax.errors import UserError
from ttl_jax.system.json_object import read_object
from ttl_jax.system.whole_file import whole_file

MANIFEST = "manifest.json"
_ORBAX_MARK = "_CHECKPOINT_METADATA"  # of bundles that Orbax's own manager committed (before manifests)


def fault(bundle: Path) -> str | None:
    """Return what is wrong with a bundle; None where its files match its manifest."""
    if not bundle.is_dir():
        return "it is not there"
    manifest = bundle / MANIFEST
    if not manifest.exists():
        return None if (bundle / _ORBAX_MARK).exists() else "it was never finished"
    try:
        files = read_object(manifest, files=dict)["files"]
        known = [(name, int(size), str(digest)) for name, (size, digest) in files.items()]
    except (UserError, ValueError, TypeError):
        return f"{MANIFEST} is unreadable"
    for name, size, digest in known:
        path = bundle / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if _sha256(path) != digest:
            return f"the bytes of {name} have changed"
    return None


def seal(bundle: Path) -> None:
    """Writes the manifest, last and as a whole."""
    for mark in bundle.glob("*/commit_success.txt"):
        mark.write_text("")  # Orbax writes the path on this machine in it
    files = {
        str(path.relative_to(bundle)): (path.stat().st_size, _sha256(path))
        for path in sorted(bundle.rglob("*"))
        if path.is_file()
    }
    with whole_file(bundle / MANIFEST) as beside:
        beside.write_text(json.dumps({"files": files}))  # ends in a bracket: a cut is seen


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
