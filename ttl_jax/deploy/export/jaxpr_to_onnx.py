"""From a traced program (jaxpr) to an ONNX graph: constants are folded on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from ttl_jax.deploy.export.onnx_graph import Graph, Tensor, Value
from ttl_jax.deploy.export.onnx_rules import RULES


def convert(program: core.ClosedJaxpr, arguments: Sequence[Value], graph: Graph) -> list[Value]:
    """Appends a program's operations to a graph.

    Args:
        program: the traced function.
        arguments: its arguments; constants are folded into what they meet.
        graph: takes nodes and constants.

    Returns:
        The program's results.

    Raises:
        NotImplementedError: an operation, or a use of one, that has no rule.
    """
    known: dict[Any, Value] = dict(zip(program.jaxpr.invars, arguments, strict=True))
    known |= {
        var: np.asarray(value) for var, value in zip(program.jaxpr.constvars, program.consts, strict=True)
    }

    def read(var: Any) -> Value:
        return np.asarray(var.val) if isinstance(var, core.Literal) else known[var]

    outer = graph.scope
    for equation in program.jaxpr.eqns:
        given = [read(var) for var in equation.invars]
        graph.scope = _scope(outer, str(equation.source_info.name_stack))
        results = _apply(equation, given, graph)
        known |= dict(zip(equation.outvars, results, strict=True))
    graph.scope = outer
    return [read(var) for var in program.jaxpr.outvars]


def _scope(outer: str, inner: str) -> str:
    """The modules' names: of "Network/stage1/norm1/norm1.affine" the parts below the network."""
    parts = [part for part in inner.split("/") if part and "." not in part and "(" not in part]
    return "/".join(parts[1:]) or outer


def _apply(equation: Any, given: list[Value], graph: Graph) -> list[Value]:
    """The results of one equation."""
    name, parameters = equation.primitive.name, equation.params
    inner = parameters.get("jaxpr", parameters.get("call_jaxpr"))
    if inner is not None:
        return convert(inner, given, graph)
    if not any(isinstance(value, Tensor) for value in given):
        return [_folded(equation, *given)]  # type: ignore[arg-type]  # all are constants
    if name not in RULES:
        raise NotImplementedError(f"there is no form for the operation {name!r}")
    return [RULES[name](graph, equation, *given)]


_IN_NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum,
    "min": np.minimum, "rsqrt": lambda x: 1 / np.sqrt(x), "square": np.square, "sqrt": np.sqrt,
    "neg": np.negative,
}  # fmt: skip


def _folded(equation: Any, *given: np.ndarray) -> np.ndarray:
    """The result of an equation of constants."""
    name, var = equation.primitive.name, equation.outvars[0]
    if name in _IN_NUMPY and var.aval.dtype == np.float32:
        return np.asarray(_IN_NUMPY[name](*given), np.float32)
    if name == "broadcast_in_dim":
        shape = [1] * var.aval.ndim
        for axis, length in zip(equation.params["broadcast_dimensions"], given[0].shape, strict=True):
            shape[axis] = length
        return given[0].reshape(shape)
    whole = (
        np.broadcast_to(value, one.aval.shape) for value, one in zip(given, equation.invars, strict=True)
    )
    return np.asarray(equation.primitive.bind(*map(jnp.asarray, whole), **equation.params))
