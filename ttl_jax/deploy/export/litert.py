"""Export to LiteRT (.tflite): phones, microcontrollers, EdgeTPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.deploy.export.format import Runnable
from ttl_jax.deploy.export.forward import Forward
from ttl_jax.deploy.export.stablehlo import lower

FILE = "model.tflite"
NEEDS = ("litert_converter.mlir", "ai_edge_litert.interpreter"), "'ttl-jax[litert]'"


def write(forward: Forward, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a model of one image, which the interpreter resizes to any batch.

    A symbolic batch would leave SHAPE and GATHER operations in the model, which few accelerators run; the
    lowering is that for a TPU, which has no calls of a CPU's own libraries.
    """
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir._mlir_libs import converter_api_ext as converter

    program = lower(forward, ("tpu",), batch=1).mlir_module()
    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse(program)
        converter.set_signature(module.operation, "serving_default", ["images"], ["probabilities"])
        converter.run_convert_to_tfl_passes(module, passmanager.PassManager(), converter.ConvertToTFLConfig())
        path.write_bytes(converter.export_flatbuffer_to_bytes(module.operation))


def open(forward: Forward, path: Path) -> Runnable:
    """The function of the written file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path))
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result["index"]))

    return Runnable(predict, "LiteRT")
