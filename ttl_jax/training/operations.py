"""How many floating-point operations a program takes, whatever machine counts them."""

from __future__ import annotations

from typing import Any


def operations(traced: Any) -> float | None:
    """XLA's count for the plain form of each layer, on all devices; None where the backend cannot count.

    A CPU's own forms are left out: Winograd's convolutions multiply less, and of what is done in a loop XLA
    counts one turn. A TPU's have neither, and nothing is compiled for the count.

    Args:
        traced: from `jax.jit(function).trace(...)`.
    """
    analysis = traced.lower(lowering_platforms=("tpu",)).cost_analysis()
    return float(analysis["flops"]) if analysis and "flops" in analysis else None
