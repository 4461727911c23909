"""Folders beside a run's: those that come with the program (configs/, benchmarks/), and the user's own."""

from __future__ import annotations

import os
from pathlib import Path

import ttl_jax


def shipped(name: str) -> Path:
    """The folder of that name: within the installed package (pyproject.toml), or beside it in a checkout."""
    package = Path(ttl_jax.__file__).parent
    within = package / name
    return within if within.is_dir() else package.parent / name


def shipped_names(name: str) -> tuple[str, ...]:
    """The names of the Python files in such a folder, without their ending."""
    return tuple(sorted(path.stem for path in shipped(name).glob("*.py")))


def user_cache() -> Path:
    """$TTL_JAX_CACHE, or ~/.cache/ttl_jax where that is empty or not set."""
    return Path(os.environ.get("TTL_JAX_CACHE") or os.path.expanduser("~/.cache/ttl_jax"))


def user_settings() -> Path:
    """$XDG_CONFIG_HOME/ttl_jax, or ~/.config/ttl_jax."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "ttl_jax")
