"""Download to a cache: with progress, resume, hash check and an atomic final move."""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from ttl_jax.errors import UserError
from ttl_jax.system.user_folders import user_cache

CHUNK = 1 << 20
TIMEOUT = 20.0  # seconds without an answer


def cache_folder() -> Path:
    """$TTL_JAX_CACHE/weights, or ~/.cache/ttl_jax/weights."""
    return user_cache() / "weights"


def download(url: str, sha256: str) -> Path:
    """Return the cached file of a URL; fetch what is missing of it.

    Args:
        url: Address of the file.
        sha256: The leading digits of its SHA-256, at least eight hexadecimal ones.

    Raises:
        UserError: it cannot be reached, or its hash is another; says which file to put where.
    """
    path = cache_folder() / url.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(url, part)
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{url} cannot be reached ({reason}); on a machine with a network download it, and put "
            f"it at {path} (what was fetched so far is kept and continued)"
        ) from None
    # Check the hash before the file gets its final name: a file of that name is trusted from then on.
    digest = sha256_of(part)
    if not digest.startswith(sha256):
        part.unlink()
        raise UserError(
            f"{url}: the SHA-256 of what came begins with {digest[: len(sha256)]}, not {sha256}; "
            f"it was removed: try again, or put the right file at {path}"
        )
    part.replace(path)
    return path


def _fetch(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing
            return
        raise
    with answer, part.open("ab" if answer.status == 206 else "wb") as file:
        done = file.tell()
        total = done + int(answer.headers["Content-Length"] or 0)
        shown = 0.0
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if sys.stderr.isatty() and time.monotonic() - shown > 0.2:
                shown = time.monotonic()
                share = f"{done / total:4.0%} " if total else ""
                print(f"\r{part.stem} {share}{done / 1e6:.0f} MB", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if total and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
