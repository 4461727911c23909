"""The folders that belong to the user, not to a run: the cache, and what is kept for good."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """$TTL_JAX_CACHE, or ~/.cache/ttl_jax where that is empty or not set."""
    return Path(os.environ.get("TTL_JAX_CACHE") or os.path.expanduser("~/.cache/ttl_jax"))


def user_settings() -> Path:
    """$XDG_CONFIG_HOME/ttl_jax, or ~/.config/ttl_jax."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "ttl_jax")
