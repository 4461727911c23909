"""Multiply-accumulates, counted in the traced program: no network has to say what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import jax

from ttl_jax.models import cpu


@dataclass(frozen=True)
class Count:
    """Work of the convolutions and matrix products of a program.

    Attributes:
        macs: Number of multiply-accumulates.
        activations: Number of output elements. Memory traffic and latency follow it more closely than MACs
            (Radosavovic et al. 2020, "Designing network design spaces").
    """

    macs: int = 0
    activations: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.macs + other.macs, self.activations + other.activations)

    def __mul__(self, times: int) -> Count:
        return Count(self.macs * times, self.activations * times)


def count(function: Callable[..., Any], *arguments: Any) -> Count:
    """Count a function's convolutions and matrix products without running it.

    Args:
        function: Any function that JAX can trace.
        *arguments: The function's arguments, as arrays or `jax.ShapeDtypeStruct`s.
    """
    with cpu.disabled():  # the plain form has it all in convolutions and matrix products
        return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> Count:
    return sum((_count_equation(equation) for equation in jaxpr.eqns), Count())


def _count_equation(equation: Any) -> Count:
    out: Any = equation.outvars[0].aval if equation.outvars else None
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        spec = equation.params["dimension_numbers"].rhs_spec  # (out, in, *space) places
        window = prod(kernel[place] for place in spec[1:])  # in-channels a group, times the taps
        return Count(out.size * window, out.size)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return Count(out.size * prod(left[axis] for axis in contracted), out.size)
    inner = [_count(jaxpr) for jaxpr in _inner(equation)]
    if equation.primitive.name == "cond":
        return max(inner, key=lambda found: found.macs, default=Count())
    times = equation.params["length"] if equation.primitive.name == "scan" else 1
    return sum(inner, Count()) * times


def _inner(equation: Any) -> Iterator[Any]:
    """Return the programs inside an equation (jit, cond, scan, custom derivatives)."""
    for value in equation.params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(part, "eqns"):
                yield part
            elif hasattr(part, "jaxpr"):
                yield part.jaxpr
