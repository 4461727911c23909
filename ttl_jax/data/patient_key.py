"""The secret under which ids of patients and images are hashed, and the hashes.

A hash without a secret hides nothing: that of a number of eight digits is found by trying all of them in
seconds. The secret is TTL_JAX_PATIENT_KEY, or a random one that is made once and kept in the user's settings,
outside all outputs.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import lru_cache
from pathlib import Path

from ttl_jax.errors import UserError
from ttl_jax.system.folders import user_settings

KEY_VARIABLE = "TTL_JAX_PATIENT_KEY"


def hashed(text: str, keyed: bool = True) -> str:
    """Return a keyed hash: equal texts give equal hashes, which do not reveal the text.

    Args:
        text: The text to hide.
        keyed: Under the user's key. Without it the hash is found by trying all texts: for names that a split
            is drawn by, which must be the same under another key and are never written.
    """
    return hashlib.blake2b(text.encode(), digest_size=10, key=_key() if keyed else b"").hexdigest()


def key_digest() -> str:
    """Return eight digits that tell one key from another, slow to compute."""
    return _digest(_key())


def key_file() -> Path:
    """The file that the random key is kept in."""
    return user_settings() / "patient_key"


def key_is_given() -> bool:
    """True where the user has set a secret, in whose place the random key would stand."""
    return bool(os.environ.get(KEY_VARIABLE))


@lru_cache(maxsize=8)
def _digest(key: bytes) -> str:
    return hashlib.scrypt(key, salt=b"ttl_jax", n=2**13, r=8, p=1, dklen=4).hex()


def _key() -> bytes:
    return os.environ.get(KEY_VARIABLE, "").encode()[:64] or _own_key(key_file())


@lru_cache(maxsize=8)
def _own_key(path: Path) -> bytes:
    """Return the random key; make it where there is none.

    Raises:
        UserError: it cannot be read, or made.
    """
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes().strip()[:64]
    except OSError as error:
        raise UserError(
            f"the key that patients are hashed under cannot be kept in {path} ({error.strerror}): set "
            f"{KEY_VARIABLE} to a secret of your own"
        ) from None
    if len(key) < 16:
        raise UserError(f"{path} holds no key: put back the one that was there, or remove it for another one")
    return key


def _make_key(path: Path) -> None:
    """Write a new key for this user alone; where two processes make one, the first is that of both."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_hex(32).encode())
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(beside, path)
        print(
            f"ids of patients and images are hashed under a new random key, kept in {path} and in no output: "
            f"keep it, or set {KEY_VARIABLE}; under another key a run cannot go on",
            flush=True,
        )
    except FileExistsError:
        pass
    finally:
        beside.unlink()
