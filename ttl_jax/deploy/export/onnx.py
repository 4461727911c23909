"""Export to ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.deploy.export.format import Predict, Runnable
from ttl_jax.deploy.export.forward import Forward
from ttl_jax.deploy.export.jaxpr_to_onnx import convert
from ttl_jax.deploy.export.onnx_fusions import simplify
from ttl_jax.deploy.export.onnx_graph import Graph, Node, Tensor
from ttl_jax.errors import UserError

FILE = "model.onnx"
NEEDS = ("onnx", "onnxruntime"), "'ttl-jax[export]'"
OPSET = 17  # of 2022: every runtime in use reads it
INPUT, OUTPUT = "images", "probabilities"


def write(forward: Forward, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes the model."""
    path.write_bytes(build(forward, metadata).SerializeToString())


def open(forward: Forward, path: Path) -> Runnable:
    """The function of the written file."""
    return Runnable(open_file(path), "ONNX Runtime")


def open_file(path: Path) -> Predict:
    """The function of a file that takes `images`, ours or PyTorch's.

    After a call ONNX Runtime's threads wait for the next one in a loop, and hold a core: of two files of
    ResNet-50 that take 19 ms each, called in turn, the second was given 31. These do not.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images})[0]


def build(forward: Forward, metadata: Mapping[str, str]) -> Any:
    """The ONNX model of a trained network.

    Args:
        forward: the function to export.
        metadata: kept in the model, for whoever finds the file alone.

    Returns:
        An onnx.ModelProto: uint8 "images" (N, [D,] S, S, 3) -> float32 "probabilities" (N, classes), any N.

    Raises:
        UserError: the network has an operation without a form in ONNX.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rank, graph = len(forward.shape) + 1, Graph()
    channels_first = (0, rank - 1, *range(1, rank - 1))
    images = Tensor(INPUT, tuple(range(rank)), (-1, *forward.shape))
    images = graph.arrange(images, channels_first)  # while a pixel is a byte
    try:
        (logits,) = convert(forward.trace(), [images], graph)
    except NotImplementedError as error:  # a network of the user's own
        raise UserError(
            f"--format=onnx: {error}, which {forward.name} has in {graph.scope}; use stablehlo"
        ) from None
    assert isinstance(logits, Tensor)
    logits = graph.arrange(logits, (0, 1))
    graph.scope = ""
    activation = ("Softmax", {"axis": 1}) if forward.task == "multiclass" else ("Sigmoid", {})
    graph.nodes.append(Node(activation[0], [logits.name], OUTPUT, dict(activation[1])))
    simplify(graph, [OUTPUT])

    nodes = [_node(node, helper) for node in graph.nodes]
    given = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", *forward.shape])
    classes = len(forward.class_names)
    result = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", classes])
    weights = [numpy_helper.from_array(array, name) for name, array in graph.weights.items()]
    made = helper.make_graph(nodes, "ttl_jax", [given], [result], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    model.producer_name = "ttl_jax"
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model


def _node(node: Node, helper: Any) -> Any:
    attributes = dict(node.attributes)
    if node.op == "Cast":
        attributes["to"] = helper.np_dtype_to_tensor_dtype(np.dtype(attributes["to"]))
    return helper.make_node(node.op, node.inputs, [node.output], name=node.output, **attributes)
