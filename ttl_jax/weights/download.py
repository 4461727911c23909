"""Download to a cache, one process at a time: with progress, resume, hash check, an atomic final move."""

from __future__ import annotations

import hashlib
import http.client
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.system.folders import user_cache
from ttl_jax.system.lock import held

CHUNK = 1 << 20
TIMEOUT = 20.0  # seconds without an answer, or without a byte of it
WINDOW, LEAST = 60.0, 1 << 20  # seconds in which at least so many bytes are to come
DEADLINE = 3600.0  # seconds for all


def cache_folder() -> Path:
    """$TTL_JAX_CACHE/weights, or ~/.cache/ttl_jax/weights."""
    return user_cache() / "weights"


def download(url: str, sha256: str) -> Path:
    """Return the cached file of a URL, its hash checked; fetch what is missing of it.

    Processes that want the same file wait for the first of them.

    Args:
        url: Address of the file.
        sha256: The leading digits of its SHA-256, at least eight hexadecimal ones.

    Raises:
        UserError: it cannot be reached, comes too slowly, or its hash is another.
    """
    path = cache_folder() / url.rsplit("/", 1)[-1]
    if path.is_file():  # in a folder that may be read-only
        return _checked(path, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path.with_name(path.name + ".lock"), wait=True):
        if path.is_file():
            return _checked(path, sha256)
        part = path.with_name(path.name + ".part")
        try:
            _fetch(url, part)
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = getattr(error, "reason", error)
            raise UserError(
                f"{url} cannot be reached ({reason}); on a machine with a network download it, and put "
                f"it at {path} (what was fetched so far is kept and continued)"
            ) from None
        digest = sha256_of(part)
        if not digest.startswith(sha256):
            part.unlink()
            raise UserError(
                f"{url}: the SHA-256 of what came begins with {digest[: len(sha256)]}, not {sha256}; "
                f"it was removed: try again, or put the right file at {path}"
            )
        part.replace(path)
        return path


def _checked(path: Path, sha256: str) -> Path:
    digest = sha256_of(path)
    if not digest.startswith(sha256):
        raise UserError(
            f"{path}: its SHA-256 begins with {digest[: len(sha256)]}, not {sha256}, so it is damaged or "
            "another file; remove it, and it is fetched anew"
        )
    return path


def _fetch(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    began = time.monotonic()
    try:
        answer = _answer(request)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing
            return
        raise
    with answer, part.open("ab" if answer.status == 206 else "wb") as file:
        done = file.tell()
        total = done + int(answer.headers["Content-Length"] or 0)
        shown, window, then = 0.0, time.monotonic(), done
        while chunk := answer.read1(CHUNK):  # what has come, not a whole chunk: a server may drip
            file.write(chunk)
            done += len(chunk)
            now = time.monotonic()
            if now - began > DEADLINE or (now - window > WINDOW and done - then < LEAST):
                raise TimeoutError(f"too slow: {done} bytes in {now - began:.0f} s")
            if now - window > WINDOW:
                window, then = now, done
            if sys.stderr.isatty() and now - shown > 0.2:
                shown = now
                share = f"{done / total:4.0%} " if total else ""
                print(f"\r{part.stem} {share}{done / 1e6:.0f} MB", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if total and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _answer(request: urllib.request.Request) -> Any:
    """Return the server's answer once its head is there; a socket's timeout is of each byte of it.

    Raises:
        TimeoutError: it is not there in time.
    """
    came: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            came.put(urllib.request.urlopen(request, timeout=TIMEOUT))
        except Exception as error:
            came.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = came.get(timeout=WINDOW)
    except queue.Empty:
        raise TimeoutError(f"no answer in {WINDOW:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
