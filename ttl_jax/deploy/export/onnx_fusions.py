"""Rewriting of an ONNX graph: what a network computes, in the fewest and fastest operations.

Each rule finds a pattern whose inner results nobody else reads. The values stay the same but for rounding.
"""

from __future__ import annotations

import numpy as np

from ttl_jax.deploy.export.onnx_graph import Graph, Node


class LinkedGraph:
    """A graph with its readers and makers, kept true while nodes are merged.

    Args:
        graph: changed in place.
        outputs: names of the tensors that the model returns, which always have a reader.
    """

    def __init__(self, graph: Graph, outputs: list[str]) -> None:
        self.graph, self.outputs = graph, outputs
        self.maker = {node.output: node for node in graph.nodes}
        self.count: dict[str, int] = dict.fromkeys(outputs, 1)
        for node in graph.nodes:
            for name in node.inputs:
                self.count[name] = self.count.get(name, 0) + 1

    def made_by(self, name: str, *ops: str, readers: int = 1) -> Node | None:
        """The node of one of these operations that makes a tensor which so many nodes read."""
        node = self.maker.get(name)
        return node if node is not None and node.op in ops and self.count.get(name) == readers else None

    def constant(self, name: str) -> np.ndarray | None:
        """The constant of this name."""
        return self.graph.weights.get(name)

    def merge(self, node: Node, op: str, inputs: list[str], **attributes: object) -> None:
        """Lets a node compute its result in another way; what only it read is left to `sweep`."""
        for name in node.inputs:
            self.count[name] -= 1
        for name in inputs:
            self.count[name] = self.count.get(name, 0) + 1
        node.op, node.inputs, node.attributes = op, inputs, dict(attributes)

    def weight(self, like: str, array: np.ndarray) -> str:
        """Adds a constant in the scope of a tensor."""
        self.graph.scope = like.rpartition("/")[0]
        return self.graph.weight(np.ascontiguousarray(array, np.float32))

    def sweep(self) -> None:
        """Drops the nodes and constants that no result needs."""
        needed, kept = set(self.outputs), []
        for node in reversed(self.graph.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        self.graph.nodes = kept[::-1]
        self.graph.weights = {name: array for name, array in self.graph.weights.items() if name in needed}


def simplify(graph: Graph, outputs: list[str]) -> None:
    """Applies every fusion, in an order in which each sees what the ones before it made."""
    for fusion in (_restored_axes, _clip, _leaky_relu, _group_norm, _into_weights, _dense, _affine):
        linked = LinkedGraph(graph, outputs)
        for node in list(graph.nodes):
            fusion(linked, node)
        linked.sweep()


def _restored_axes(linked: LinkedGraph, node: Node) -> bool:
    """Unsqueeze of what was squeezed at the same places."""
    if node.op != "Unsqueeze" or (inner := linked.maker.get(node.inputs[0])) is None or inner.op != "Squeeze":
        return False
    before, after = (linked.constant(each.inputs[1]) for each in (inner, node))
    if before is None or after is None or before.tolist() != after.tolist():
        return False
    for reader in linked.graph.nodes:
        reader.inputs = [inner.inputs[0] if name == node.output else name for name in reader.inputs]
    return True


def _clip(linked: LinkedGraph, node: Node) -> bool:
    """ReLU and an upper bound."""
    if node.op != "Clip" or node.inputs[1] or (inner := linked.made_by(node.inputs[0], "Relu")) is None:
        return False
    low = linked.weight(node.output, np.zeros(()))
    linked.merge(node, "Clip", [inner.inputs[0], low, node.inputs[2]])
    return True


def _leaky_relu(linked: LinkedGraph, node: Node) -> bool:
    """x where it is at least 0, else x times a slope."""
    if node.op != "Where":
        return False
    which, x, low = (linked.maker.get(name) for name in node.inputs)
    if which is None or low is None or which.op != "GreaterOrEqual" or low.op != "Mul":
        return False
    zero, slope = linked.constant(which.inputs[1]), linked.constant(low.inputs[1])
    same = {which.inputs[0], low.inputs[0], node.inputs[1]}
    if len(same) > 1 or zero is None or slope is None or zero.size > 1 or slope.size > 1 or zero.item() != 0:
        return False
    linked.merge(node, "LeakyRelu", [node.inputs[1]], alpha=float(slope.item()))
    return True


def _group_norm(linked: LinkedGraph, node: Node) -> bool:
    """(x - mean) / sqrt(variance + epsilon) over all axes but two, as an InstanceNormalization of groups."""
    if node.op != "Mul" or len(node.inputs) != 2:
        return False
    chain = [linked.maker.get(node.inputs[1])]
    for op in ("Reciprocal", "Sqrt", "Add", "GlobalAveragePool", "Mul"):
        if chain[-1] is None or chain[-1].op != op:
            return False
        chain.append(linked.maker.get(chain[-1].inputs[0]))
    centred, added = chain[-1], chain[2]
    if centred is None or added is None or centred.op != "Sub" or centred.output != node.inputs[0]:
        return False
    x, mean = centred.inputs[0], linked.maker.get(centred.inputs[1])
    epsilon = linked.constant(added.inputs[1])
    if mean is None or mean.op != "GlobalAveragePool" or mean.inputs != [x] or epsilon is None:
        return False
    groups = linked.maker.get(x)
    lengths = None if groups is None or groups.op != "Reshape" else linked.constant(groups.inputs[1])
    if lengths is None or epsilon.size != 1:
        return False
    ones = linked.weight(node.output, np.ones(lengths[1]))
    zeros = linked.weight(node.output, np.zeros(lengths[1]))
    linked.merge(node, "InstanceNormalization", [x, ones, zeros], epsilon=float(epsilon.item()))
    return True


def _by_channel(linked: LinkedGraph, name: str, channels: int) -> np.ndarray | None:
    """A constant of one value, or of one a channel (axis 1 of a map), as (channels,)."""
    array = linked.constant(name)
    if array is None or array.size not in (1, channels):
        return None
    if array.size > 1 and (array.ndim < 2 or array.shape[1] != channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def _into_weights(linked: LinkedGraph, node: Node) -> bool:
    """A factor or an offset a channel into the convolution before it, a factor into the one behind it."""
    if node.op == "Conv" and (scaled := linked.made_by(node.inputs[0], "Mul")) is not None:
        kernel = linked.graph.weights[node.inputs[1]]
        factor = _by_channel(linked, scaled.inputs[1], kernel.shape[1])
        if factor is None or node.attributes["group"] != 1:
            return False
        factor = factor.reshape(1, -1, *(1,) * (kernel.ndim - 2))
        kernel_name = linked.weight(node.output, kernel * factor)
        linked.merge(node, "Conv", [scaled.inputs[0], kernel_name, *node.inputs[2:]], **node.attributes)
        return True
    if node.op not in ("Mul", "Add") or (inner := linked.made_by(node.inputs[0], "Conv")) is None:
        return False
    kernel = linked.graph.weights[inner.inputs[1]]
    value = _by_channel(linked, node.inputs[1], len(kernel))
    if value is None:
        return False
    has_bias = len(inner.inputs) > 2
    bias = linked.graph.weights[inner.inputs[2]] if has_bias else np.zeros(len(kernel), np.float32)
    if node.op == "Mul":
        kernel, bias = kernel * value.reshape(-1, *(1,) * (kernel.ndim - 1)), bias * value
    else:
        bias = bias + value
    names = [inner.inputs[0], linked.weight(inner.output, kernel)]
    if has_bias or node.op == "Add":
        names.append(linked.weight(inner.output, bias))
    linked.merge(node, "Conv", names, **inner.attributes)
    return True


def _dense(linked: LinkedGraph, node: Node) -> bool:
    """A product of matrices and an offset a column."""
    if node.op != "Add" or (inner := linked.made_by(node.inputs[0], "MatMul")) is None:
        return False
    kernel, offset = linked.constant(inner.inputs[1]), linked.constant(node.inputs[1])
    if (
        kernel is None
        or offset is None
        or offset.size != kernel.shape[1]
        or offset.shape[-1] != kernel.shape[1]
    ):
        return False
    linked.merge(node, "Gemm", [*inner.inputs, linked.weight(node.output, offset.reshape(-1))])
    return True


def _affine(linked: LinkedGraph, node: Node) -> bool:
    """A factor and an offset a channel that no convolution took, in one pass over the map."""
    if node.op != "Add" or (inner := linked.made_by(node.inputs[0], "Mul")) is None:
        return False
    offset, factor = linked.constant(node.inputs[1]), linked.constant(inner.inputs[1])
    if offset is None or factor is None or offset.shape != factor.shape or offset.ndim < 3:
        return False
    channels = offset.shape[1]
    if channels != offset.size:
        return False
    arrays = factor.reshape(-1), offset.reshape(-1), np.zeros(channels), np.ones(channels)
    names = [linked.weight(node.output, array) for array in arrays]
    linked.merge(node, "BatchNormalization", [inner.inputs[0], *names], epsilon=0.0)
    return True
