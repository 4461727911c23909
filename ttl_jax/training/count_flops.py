"""Floating-point operations of a program, counted alike on every machine."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import jax

from ttl_jax import models
from ttl_jax.system.whole_file import whole_file


def operations(traced: Any) -> float | None:
    """XLA's count for the plain form of each layer, on all devices; None where the backend cannot count.

    A CPU's own forms are left out: Winograd's convolutions multiply less, and of what is done in a loop XLA
    counts one turn. A TPU's have neither, and nothing is compiled for the count.

    Args:
        traced: the result of `jax.jit(function).trace(...)`.
    """
    analysis = traced.lower(lowering_platforms=("tpu",)).cost_analysis()
    return float(analysis["flops"]) if analysis and "flops" in analysis else None


def operations_once(traced: Any, lowered: Any) -> float | None:
    """The same, kept beside the compiled program: a second start finds both.

    To count takes a second and 100 MB for a large network, half of what a start's programs take to load.

    Args:
        traced: the result of `jax.jit(function).trace(...)`.
        lowered: the program lowered for this machine; its text is the key of the stored count.
    """
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if not jax.config.jax_enable_compilation_cache or not folder or "://" in folder:  # type: ignore[attr-defined]
        return operations(traced)
    program = f"{jax.__version__}\n{_layers()}\n{lowered.as_text()}"
    path = Path(folder) / f"operations-{hashlib.sha256(program.encode()).hexdigest()}"
    with suppress(OSError, ValueError):
        return float(path.read_text())
    count = operations(traced)
    if count is not None:
        # A folder that is full or another's keeps nothing.
        with suppress(OSError), whole_file(path) as beside:
            beside.write_text(repr(count))
    return count


@cache
def _layers() -> str:
    """The source of all layers. A CPU's program does not show the plain form, which is what is counted."""
    folder = Path(models.__file__).parent
    return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")))
