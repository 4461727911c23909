"""Forms of a network's operations that are fast on a CPU, behind one switch.

Layers call `convolution`, `max_pool`, `moments` and so on of this package, whatever the machine. On a CPU
these are operations of our own (`operation.py`), whose programs take the fast form. On other machines, under
`disabled()`, and with TTL_JAX_PLAIN_HOST=1 in the environment, they are JAX's own and nothing else.

Values and derivatives are the same but for rounding (docs/performance.md has the gains). Gradients,
`jax.jvp`, `jax.vmap` and `jax.export` work either way.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import jax

from ttl_jax.typing import Array

# Part of the key of everything that JAX traces and compiles: no program of one setting serves the other.
_PLAIN = jax.make_user_context(bool(os.environ.get("TTL_JAX_PLAIN_HOST")))


def wanted() -> bool:
    """True unless the switch is off, whatever the machine."""
    return not _PLAIN.value


def enabled(x: Array | None = None) -> bool:
    """True where networks are traced with the forms for a CPU.

    Args:
        x: the operation's input; where a length is a symbol (`jax.export`), the plain form is taken.
    """
    counted = x is None or all(isinstance(length, int) for length in x.shape)
    return wanted() and counted and jax.default_backend() == "cpu"


def disabled(off: bool = True) -> AbstractContextManager[None]:
    """Create a context in which networks are traced as JAX's own operations.

    It holds in the thread that enters it.

    Args:
        off: False gives the forms for a CPU instead, whatever the environment says.
    """
    return _PLAIN(off)


__all__ = ["disabled", "enabled", "wanted"]
