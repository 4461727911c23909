"""An ONNX graph in the making: nodes, constants, and tensors that know the order of their axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

UNKNOWN = -1  # a length that is not known before the model runs: the batch, or a multiple of it


@dataclass(frozen=True)
class Tensor:
    """A value of the program that is computed when the model runs.

    Attributes:
        name: of the ONNX tensor.
        axes: of the value, in the tensor's order: (0, 3, 1, 2) for images that lie as NCHW.
        shape: of the value; 1 too where it is the same along an axis and was not written out.
        factor: what the tensor is still to be multiplied by.
    """

    name: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    factor: float = 1.0

    @property
    def lengths(self) -> list[int]:
        """The shape in the tensor's own order of axes."""
        return [self.shape[axis] for axis in self.axes]

    def place(self, axis: int) -> int:
        """The place of an axis in the tensor."""
        return self.axes.index(axis)


Value = (
    Tensor | np.ndarray
)  # a constant has the value's order of axes, and 1 where it is the same along an axis


@dataclass
class Node:
    """An operation with one result."""

    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]


@dataclass
class Graph:
    """Nodes in order, and the constants that they read.

    Attributes:
        scope: where in the network the next node belongs, as "stage1/block1/conv1"; part of its names.
    """

    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    scope: str = ""
    _known: dict[Any, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def emit(self, op: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Appends a node, or finds the one that computes the same; returns the name of its result."""
        names = [each if isinstance(each, str) else self.weight(each) for each in inputs]
        key = (op, *names, repr(sorted(attributes.items())))
        if key not in self._known:
            self._known[key] = self._name(op)
            self.nodes.append(Node(op, names, self._known[key], attributes))
        return self._known[key]

    def weight(self, array: np.ndarray) -> str:
        """Adds a constant, a small one once; returns its name."""
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size < 64 else object()
        if self._known.get(key) not in self.weights:
            self._known[key] = self._name("constant")
            self.weights[self._known[key]] = array
        return self._known[key]

    def _name(self, kind: str) -> str:
        return f"{self.scope}/{kind}_{next(self._numbers)}".lstrip("/")

    def plain(self, tensor: Tensor) -> Tensor:
        """The tensor with its factor multiplied in."""
        if math.isclose(tensor.factor, 1.0, rel_tol=1e-6):
            return Tensor(tensor.name, tensor.axes, tensor.shape)
        scaled = self.emit("Mul", tensor.name, np.array(tensor.factor, np.float32))
        return Tensor(scaled, tensor.axes, tensor.shape)

    def arrange(self, tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
        """The tensor with its axes in this order: a Transpose, unless lengths of 1 alone change places."""
        tensor = self.plain(tensor)
        before, after = ([axis for axis in order if tensor.shape[axis] != 1] for order in (tensor.axes, axes))
        if before == after:
            return self.reshape(tensor, axes, tensor.shape)
        name = self.emit("Transpose", tensor.name, perm=[tensor.place(axis) for axis in axes])
        return Tensor(name, axes, tensor.shape)

    def reshape(self, tensor: Tensor, axes: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
        """The same values, in their order, as a tensor of other axes and lengths."""
        tensor = self.plain(tensor)
        made = Tensor(tensor.name, axes, shape)
        if made.lengths == tensor.lengths:
            return made
        if made.lengths.count(UNKNOWN) > 1:
            raise NotImplementedError("a shape with two unknown lengths")
        return replace(made, name=self.emit("Reshape", tensor.name, np.array(made.lengths)))

    def full(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The tensor written out along the axes where it is the same."""
        tensor = self.plain(tensor)
        if tensor.shape == shape:
            return tensor
        wanted = [shape[axis] if tensor.shape[axis] == 1 else 1 for axis in tensor.axes]
        if UNKNOWN in wanted:
            raise NotImplementedError("a value that is repeated along the batch")
        return Tensor(self.emit("Expand", tensor.name, np.array(wanted, np.int64)), tensor.axes, shape)

    def name_of(self, value: Value, axes: tuple[int, ...]) -> str:
        """The name of a tensor or constant with its axes in this order."""
        if isinstance(value, Tensor):
            return self.arrange(value, axes).name
        if value.size == 1:
            return self.weight(value.reshape(()))
        return self.weight(np.ascontiguousarray(value.transpose(axes)))

    def readers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                found.setdefault(name, []).append(node)
        return found
