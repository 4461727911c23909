"""An operation with two forms of one result: XLA's own, and the one that a CPU runs faster.

Each is a JAX primitive. A traced network holds one equation a layer; which form it takes is settled when it
is lowered for a platform, once for all layers of one shape. The derivative of an operation is made of
operations again, forward and reverse, to any order: each of the results chooses its own form.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ttl_jax.typing import Array

Form = Callable[..., Array]  # (how, *arrays) -> array


def operation(name: str, plain: Form, fast: Form, rows: tuple[int, ...] = ()) -> Primitive:
    """Create an operation, called as `made.bind(*arrays, how=...)`.

    Args:
        name: name of the operation in a printed program.
        plain: form for every platform; `how` is all that it must know besides the arrays, hashable.
        fast: form for CPUs, of the same result. Neither is ever differentiated.
        rows: operands whose first axis is the batch, of which each example of the result needs its own alone;
            mapped over (`vmap`) they become one larger batch. Where others are mapped it is a loop.
    """
    made = Primitive(name)
    compiled = jax.jit(lambda *arrays, how: made.bind(*arrays, how=how), static_argnames="how")

    def evaluate(*arrays: Array, how: Hashable) -> Array:
        with jax.disable_jit(False):  # else the compiled form would call this one again
            return compiled(*arrays, how=how)

    made.def_impl(evaluate)

    @cache
    def result(how: Hashable, *given: jax.ShapeDtypeStruct) -> Any:
        out = jax.eval_shape(partial(plain, how), *given)
        return jax.core.ShapedArray(out.shape, out.dtype)

    def abstract(*given: Any, how: Hashable) -> Any:
        return result(how, *(jax.ShapeDtypeStruct(one.shape, one.dtype) for one in given))

    made.def_abstract_eval(abstract)
    for form, platform in ((plain, None), (fast, "cpu")):
        mlir.register_lowering(made, mlir.lower_fun(_traceable(form), multiple_results=False), platform)
    batching.primitive_batchers[made] = partial(_mapped, made, rows)
    return made


def linear_in_last(
    primitive: Primitive, transposed: Callable[..., Array], forward: Callable[..., Any] | None = None
) -> None:
    """Declare that an operation is linear in its last operand.

    Args:
        primitive: the operation.
        transposed: (cotangent, *other operands, how) -> cotangent of the last operand.
        forward: (primals, tangents, how) -> both of the result, where the other operands move it too; None =
            it is flat in them.
    """

    def linear(primals: Any, tangents: Any, *, how: Hashable) -> tuple[Array, Any]:
        *others, _ = primals
        tangent = ad.instantiate_zeros(tangents[-1])
        return primitive.bind(*primals, how=how), primitive.bind(*others, tangent, how=how)

    def backward(cotangent: Any, *operands: Any, how: Hashable) -> list[Any]:
        *others, last = operands
        zero = type(cotangent) is ad.Zero
        back = ad.Zero(last.aval.to_ct_aval()) if zero else transposed(cotangent, *others, how=how)
        return [*(None for _ in others), back]

    ad.primitive_jvps[primitive] = forward or linear
    ad.primitive_transposes[primitive] = backward


def _traceable(form: Form) -> Callable[..., Array]:
    return lambda *arrays, how: form(how, *arrays)


def _mapped(
    primitive: Primitive, rows: tuple[int, ...], arrays: Any, axes: Any, *, how: Hashable
) -> tuple[Array, int]:
    """The rule of `vmap`."""
    mapped = tuple(number for number, axis in enumerate(axes) if axis is not None)
    given = [
        array if axis is None else jnp.moveaxis(array, axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
    ]
    if mapped == rows:
        merged = [
            one.reshape(-1, *one.shape[2:]) if place in rows else one for place, one in enumerate(given)
        ]
        out = primitive.bind(*merged, how=how)
        return out.reshape(*given[rows[0]].shape[:2], *out.shape[1:]), 0

    def one(some: list[Array]) -> Array:
        places = dict(zip(mapped, some, strict=True))
        return primitive.bind(*(places.get(place, array) for place, array in enumerate(given)), how=how)

    return lax.map(one, [given[place] for place in mapped]), 0
