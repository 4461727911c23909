"""One rule an operation of JAX: what it appends to an ONNX graph.

Convolutions and pools lie as NCHW, as ONNX has them. A transposed value is a tensor with another note of its
axes, so that between two convolutions nothing is moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from string import ascii_lowercase
from typing import Any

import numpy as np

from ttl_jax.deploy.export.onnx_graph import UNKNOWN, Graph, Tensor, Value

Rule = Callable[..., Tensor]  # (graph, equation, *operands) -> result


def shape_of(var: Any) -> tuple[int, ...]:
    """The shape of a value; UNKNOWN where a length is a symbol."""
    return tuple(length if isinstance(length, int) else UNKNOWN for length in var.aval.shape)


# ---- element by element


def _same_place(op: str, graph: Graph, equation: Any, *given: Value) -> Tensor:
    """An operation of elements that lie at one place; operands take the order of axes of the widest."""
    tensors = [value for value in given if isinstance(value, Tensor)]
    axes = max(tensors, key=lambda tensor: sum(length != 1 for length in tensor.shape)).axes
    shapes = [value.shape for value in given if len(value.shape) == len(axes)]
    shape = tuple(next((length for length in along if length != 1), 1) for along in zip(*shapes, strict=True))
    return Tensor(graph.emit(op, *(graph.name_of(value, axes) for value in given)), axes, shape)


def _scaled(tensor: Tensor, factor: float) -> Tensor:
    return replace(tensor, factor=tensor.factor * factor)


def _multiply(graph: Graph, equation: Any, x: Value, y: Value) -> Tensor:
    tensor, other = (x, y) if isinstance(x, Tensor) else (y, x)
    assert isinstance(tensor, Tensor)
    if isinstance(other, np.ndarray) and other.size == 1:
        return _scaled(tensor, float(other.item()))
    return _same_place("Mul", graph, equation, tensor, other)


def _divide(graph: Graph, equation: Any, x: Value, y: Value) -> Tensor:
    if isinstance(y, np.ndarray):
        return _multiply(graph, equation, x, np.asarray(1 / y, np.float32))
    return _same_place("Div", graph, equation, x, y)


def _add(graph: Graph, equation: Any, x: Value, y: Value) -> Tensor:
    pair = (x, y) if isinstance(x, Tensor) else (y, x)  # a constant second
    return _same_place("Add", graph, equation, *pair)


def _subtract(graph: Graph, equation: Any, x: Value, y: Value) -> Tensor:
    if isinstance(y, np.ndarray):
        return _add(graph, equation, x, np.asarray(-y))
    return _same_place("Sub", graph, equation, x, y)


def _bound(op: str, open_end: float, graph: Graph, equation: Any, x: Value, y: Value) -> Tensor:
    """`max` and `min`, of a constant in the forms that ONNX Runtime merges with a convolution."""
    tensor, other = (x, y) if isinstance(x, Tensor) else (y, x)
    assert isinstance(tensor, Tensor)
    if not isinstance(other, np.ndarray) or other.size != 1:
        return _same_place(op, graph, equation, tensor, other)
    tensor, bound = graph.plain(tensor), float(other.item())
    if bound == open_end:
        return tensor
    if op == "Max":
        low = np.array(bound, np.float32)
        name = graph.emit("Relu", tensor.name) if bound == 0 else graph.emit("Clip", tensor.name, low)
    else:
        name = graph.emit("Clip", tensor.name, "", np.array(bound, np.float32))
    return replace(tensor, name=name)


def _chain(*ops: str) -> Rule:
    """Operations of one operand, one after the other."""

    def rule(graph: Graph, equation: Any, x: Tensor) -> Tensor:
        x = graph.plain(x)
        name = x.name
        for op in ops:
            name = graph.emit(op, name)
        return replace(x, name=name)

    return rule


def _square(graph: Graph, equation: Any, x: Tensor) -> Tensor:
    if equation.params.get("y", 2) != 2:
        raise NotImplementedError("a power other than the square")
    x = graph.plain(x)
    return replace(x, name=graph.emit("Mul", x.name, x.name))


def _select(graph: Graph, equation: Any, which: Value, no: Value, yes: Value) -> Tensor:
    return _same_place("Where", graph, equation, which, yes, no)


def _cast(graph: Graph, equation: Any, x: Tensor) -> Tensor:
    kind = np.dtype(equation.params["new_dtype"])
    if kind == equation.invars[0].aval.dtype:
        return x
    x = graph.plain(x)
    return replace(x, name=graph.emit("Cast", x.name, to=kind))


# ---- axes


def _identity(graph: Graph, equation: Any, x: Tensor) -> Tensor:
    return x


def _transpose(graph: Graph, equation: Any, x: Tensor) -> Tensor:
    order = equation.params["permutation"]
    shape = tuple(x.shape[axis] for axis in order)
    return replace(x, axes=tuple(order.index(axis) for axis in x.axes), shape=shape)


def _broadcast(graph: Graph, equation: Any, x: Tensor) -> Tensor:
    """New axes of length 1, as the last of the tensor: what follows repeats them as it needs."""
    places, rank = equation.params["broadcast_dimensions"], equation.outvars[0].aval.ndim
    new = tuple(axis for axis in range(rank) if axis not in places)
    shape = [1] * rank
    for axis, length in zip(places, x.shape, strict=True):
        shape[axis] = length
    name = x.name
    if new:
        name = graph.emit("Unsqueeze", name, np.arange(len(x.axes), rank))
    return replace(x, name=name, axes=(*(places[axis] for axis in x.axes), *new), shape=tuple(shape))


def _squeeze(graph: Graph, equation: Any, x: Tensor) -> Tensor:
    return _without(graph, x, x.name, equation.params["dimensions"])


def _without(graph: Graph, x: Tensor, name: str, gone: Sequence[int]) -> Tensor:
    """The tensor `name`, which lies as x does, without axes of length 1."""
    left = [axis for axis in range(len(x.shape)) if axis not in gone]
    axes = tuple(left.index(axis) for axis in x.axes if axis not in gone)
    name = graph.emit("Squeeze", name, np.array(sorted(map(x.place, gone))))
    return replace(x, name=name, axes=axes, shape=tuple(x.shape[axis] for axis in left))


def _reshape(graph: Graph, equation: Any, x: Tensor) -> Tensor:
    """Axes that are merged or split where they lie, if those of each group lie side by side."""
    after = shape_of(equation.outvars[0])
    x = graph.full(x, shape_of(equation.invars[0]))
    groups = _groups(x.shape, after)
    if not _side_by_side(x, groups):
        x = graph.arrange(x, tuple(range(len(x.axes))))
    groups.sort(key=lambda group: x.place(group[0][0]))
    axes = [axis for _, new in groups for axis in new]
    for axis in reversed([axis for axis, length in enumerate(after) if length == 1]):
        # Before the next axis: so a map of one row lies as maps do.
        axes.insert(axes.index(axis + 1) if axis + 2 < len(after) else len(axes), axis)
    return graph.reshape(x, tuple(axes), after)


def _side_by_side(x: Tensor, groups: Sequence[tuple[list[int], list[int]]]) -> bool:
    wide = [axis for axis in x.axes if x.shape[axis] != 1]
    return all(wide[wide.index(old[0]) :][: len(old)] == old for old, _ in groups)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Axes of both shapes that hold the same values, without those of length 1.

    They are found from the last; a length that is UNKNOWN takes all before it.
    """
    old, new = ([axis for axis, length in enumerate(shape) if length != 1] for shape in (before, after))
    groups: list[tuple[list[int], list[int]]] = []
    while old and new:
        left, right = [old.pop()], [new.pop()]
        while old or new:
            lengths, others = [before[axis] for axis in left], [after[axis] for axis in right]
            if UNKNOWN in (*lengths, *others):
                left, right, old, new = [*old, *left], [*new, *right], [], []
            elif math.prod(lengths) < math.prod(others):
                left.insert(0, old.pop())
            elif math.prod(lengths) > math.prod(others):
                right.insert(0, new.pop())
            else:
                break
        groups.append((left, right))
    return groups


def _concatenate(graph: Graph, equation: Any, *given: Value) -> Tensor:
    axis, axes = equation.params["dimension"], next(x.axes for x in given if isinstance(x, Tensor))
    names = []
    for value, var in zip(given, equation.invars, strict=True):
        shape = shape_of(var)
        if isinstance(value, Tensor):
            names.append(graph.arrange(graph.full(value, shape), axes).name)
        elif UNKNOWN in shape:
            raise NotImplementedError("a constant that is repeated along the batch")
        else:
            names.append(graph.name_of(np.broadcast_to(value, shape), axes))
    return Tensor(graph.emit("Concat", *names, axis=axes.index(axis)), axes, shape_of(equation.outvars[0]))


def _reverse(graph: Graph, equation: Any, x: Tensor) -> Tensor:
    x = graph.plain(x)
    places = np.array([x.place(axis) for axis in equation.params["dimensions"]])
    ends = np.full(len(places), np.iinfo(np.int64).min)
    name = graph.emit("Slice", x.name, np.full(len(places), -1), ends, places, np.full(len(places), -1))
    return replace(x, name=name)


def _slice(graph: Graph, equation: Any, x: Tensor) -> Tensor:
    x = graph.full(x, shape_of(equation.invars[0]))
    after, parameters = shape_of(equation.outvars[0]), equation.params
    cut = [axis for axis in x.axes if x.shape[axis] != after[axis]]
    strides = parameters["strides"] or (1,) * len(x.axes)
    bounds = [
        (parameters["start_indices"][a], parameters["limit_indices"][a], x.place(a), strides[a]) for a in cut
    ]
    columns = (np.array(column, np.int64) for column in zip(*bounds, strict=True))
    return Tensor(graph.emit("Slice", x.name, *columns) if cut else x.name, x.axes, after)


def _pad(graph: Graph, equation: Any, x: Tensor, edge: Value) -> Tensor:
    config = equation.params["padding_config"]
    x = graph.full(x, shape_of(equation.invars[0]))
    if not isinstance(edge, np.ndarray) or any(inner for *_, inner in config):
        raise NotImplementedError("padding between values, or with a computed one")
    pads = [int(config[axis][side]) for side in (0, 1) for axis in x.axes]
    name = graph.emit("Pad", x.name, np.array(pads), edge.astype(np.float32).reshape(()))
    return Tensor(name, x.axes, shape_of(equation.outvars[0]))


# ---- sums over axes, windows, products


def _reduce(op: str, graph: Graph, equation: Any, x: Tensor) -> Tensor:
    """A sum (as a mean, times the number of values) or a maximum over axes."""
    gone = equation.params["axes"]
    x = graph.full(x, shape_of(equation.invars[0]))
    if UNKNOWN in (x.shape[axis] for axis in gone):
        raise NotImplementedError("a sum or maximum over the batch")
    places, count = sorted(map(x.place, gone)), math.prod(x.shape[axis] for axis in gone)
    if op == "ReduceMean" and places == list(range(2, len(x.axes))):
        pooled = graph.emit("GlobalAveragePool", x.name)
        return _scaled(_without(graph, x, pooled, gone), count)
    x = _without(graph, x, graph.emit(op, x.name, axes=places, keepdims=1), gone)
    return _scaled(x, count) if op == "ReduceMean" else x


def _channels_first(rank: int) -> tuple[int, ...]:
    return (0, rank - 1, *range(1, rank - 1))


def _pool(op: str, graph: Graph, equation: Any, x: Tensor) -> Tensor:
    """A window's maximum, or its sum (as a mean, times the number of values)."""
    axes, parameters = _channels_first(len(x.axes)), equation.params
    size, stride, padding = (parameters[key] for key in ("window_dimensions", "window_strides", "padding"))
    dilated = {*parameters["base_dilation"], *parameters["window_dilation"]} != {1}
    if dilated or any((size[a], stride[a], *padding[a]) != (1, 1, 0, 0) for a in axes[:2]):
        raise NotImplementedError("a window over batch or channels, or with gaps")
    x = graph.arrange(graph.full(x, shape_of(equation.invars[0])), axes)
    space = axes[2:]
    attributes: dict[str, Any] = {
        "kernel_shape": [size[a] for a in space],
        "strides": [stride[a] for a in space],
        "pads": [int(padding[a][side]) for side in (0, 1) for a in space],
    }
    if op == "AveragePool":
        attributes["count_include_pad"] = 1
    out = Tensor(graph.emit(op, x.name, **attributes), axes, shape_of(equation.outvars[0]))
    return _scaled(out, math.prod(size)) if op == "AveragePool" else out


def _convolve(graph: Graph, equation: Any, x: Value, kernel: Value) -> Tensor:
    parameters = equation.params
    numbers = parameters["dimension_numbers"]
    if not isinstance(x, Tensor) or not isinstance(kernel, np.ndarray):
        raise NotImplementedError("a convolution with a kernel that is computed")
    if parameters["batch_group_count"] != 1 or set(parameters["lhs_dilation"]) != {1}:
        raise NotImplementedError("a transposed convolution")
    kernel = np.broadcast_to(kernel, equation.invars[1].aval.shape)
    x = graph.arrange(graph.full(x, shape_of(equation.invars[0])), numbers.lhs_spec)
    name = graph.emit(
        "Conv",
        x.name,
        np.ascontiguousarray(kernel.transpose(numbers.rhs_spec)),
        kernel_shape=[kernel.shape[axis] for axis in numbers.rhs_spec[2:]],
        strides=list(parameters["window_strides"]),
        pads=[int(pair[side]) for side in (0, 1) for pair in parameters["padding"]],
        dilations=list(parameters["rhs_dilation"]),
        group=parameters["feature_group_count"],
    )
    return Tensor(name, tuple(numbers.out_spec), shape_of(equation.outvars[0]))


def _product(graph: Graph, equation: Any, x: Value, y: Value) -> Tensor:
    """A product of matrices, or an Einsum where axes are many."""
    contracted, batched = equation.params["dimension_numbers"]
    given = [
        graph.full(value, shape_of(var))
        if isinstance(value, Tensor)
        else np.broadcast_to(value, var.aval.shape)
        for value, var in zip((x, y), equation.invars, strict=True)
    ]
    shape = shape_of(equation.outvars[0])
    order = tuple(range(len(shape)))
    ranks = [len(value.shape) for value in given]
    if not batched[0] and ranks == [2, 2] and contracted == ((1,), (0,)):
        return Tensor(graph.emit("MatMul", *(graph.name_of(value, (0, 1)) for value in given)), order, shape)
    left, right = list(ascii_lowercase[: ranks[0]]), list(ascii_lowercase[ranks[0] :][: ranks[1]])
    for one, other in ((contracted[0], contracted[1]), (batched[0], batched[1])):
        for a, b in zip(one, other, strict=True):
            right[b] = left[a]
    free = [letter for letter in (*left, *right) if (letter in left) != (letter in right)]
    result = "".join((*(left[a] for a in batched[0]), *free))
    axes = [value.axes if isinstance(value, Tensor) else tuple(range(value.ndim)) for value in given]
    words = ("".join(letters[a] for a in some) for letters, some in zip((left, right), axes, strict=True))
    names = [graph.name_of(value, some) for value, some in zip(given, axes, strict=True)]
    return Tensor(graph.emit("Einsum", *names, equation=f"{','.join(words)}->{result}"), order, shape)


RULES: dict[str, Rule] = {
    "add": _add, "sub": _subtract, "mul": _multiply, "div": _divide,
    "max": partial(_bound, "Max", -math.inf), "min": partial(_bound, "Min", math.inf),
    "ge": partial(_same_place, "GreaterOrEqual"), "gt": partial(_same_place, "Greater"),
    "lt": partial(_same_place, "Less"), "le": partial(_same_place, "LessOrEqual"),
    "exp": _chain("Exp"), "logistic": _chain("Sigmoid"), "tanh": _chain("Tanh"), "erf": _chain("Erf"),
    "sqrt": _chain("Sqrt"), "rsqrt": _chain("Sqrt", "Reciprocal"), "neg": _chain("Neg"),
    "square": _square, "integer_pow": _square, "select_n": _select, "convert_element_type": _cast,
    "copy": _identity, "stop_gradient": _identity, "optimization_barrier": _identity,
    "transpose": _transpose, "broadcast_in_dim": _broadcast, "squeeze": _squeeze, "reshape": _reshape,
    "concatenate": _concatenate, "rev": _reverse, "slice": _slice, "pad": _pad,
    "reduce_sum": partial(_reduce, "ReduceMean"), "reduce_max": partial(_reduce, "ReduceMax"),
    "reduce_window_max": partial(_pool, "MaxPool"), "reduce_window_sum": partial(_pool, "AveragePool"),
    "conv_general_dilated": _convolve, "dot_general": _product,
}  # fmt: skip
