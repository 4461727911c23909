"""Folders that come with the program beside its code: configs/ and benchmarks/."""

from __future__ import annotations

from pathlib import Path

import ttl_jax


def folder(name: str) -> Path:
    """The folder of that name: within the installed package (pyproject.toml), or beside it in a checkout."""
    package = Path(ttl_jax.__file__).parent
    within = package / name
    return within if within.is_dir() else package.parent / name


def names(folder_name: str) -> tuple[str, ...]:
    """The names of the Python files in such a folder, without their ending."""
    return tuple(sorted(path.stem for path in folder(folder_name).glob("*.py")))
