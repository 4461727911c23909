"""Placement of host arrays, and memory settings, for compiled programs of one device."""

from __future__ import annotations

from typing import TypeVar

import jax
import numpy as np

from ttl_jax.system.host import keep_memory, release_memory

T = TypeVar("T")


def runs_in_place() -> bool:
    """Return whether programs run in the calling thread: on a CPU, where `set_up_jax` has set it so."""
    return jax.default_backend() == "cpu" and not jax.config.read("jax_cpu_enable_async_dispatch")


def placed(tree: T) -> T:
    """The same tree as a program takes it.

    Where programs run in place NumPy's arrays are copied, once this returns: XLA:CPU runs a program in the
    thread that calls it, whose memory is kept (`host.keep_memory`), only where all that it takes is there.
    Elsewhere they are left to the call, whose transfer nothing waits for.
    """
    if not runs_in_place():
        return tree
    # device_put may go on in NumPy's memory, whatever its may_alias: so it is given a copy.
    there: T = jax.tree.map(
        lambda leaf: jax.device_put(leaf.copy()) if isinstance(leaf, np.ndarray) else leaf, tree
    )
    jax.block_until_ready(there)
    return there


def settle_memory() -> None:
    """After compiling: what the compiler took is given back; from here on programs in place keep theirs."""
    release_memory()
    if runs_in_place():
        keep_memory()
