"""Export to LiteRT (.tflite): phones, microcontrollers, EdgeTPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.deploy.export.format import Runnable
from ttl_jax.deploy.export.forward import Forward
from ttl_jax.deploy.export.stablehlo import lower
from ttl_jax.errors import UserError

FILE = "model.tflite"
NEEDS = ("litert_converter.mlir", "ai_edge_litert.interpreter"), "'ttl-jax[litert]'"


def write(forward: Forward, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a model of one image.

    A symbolic batch would leave SHAPE and GATHER operations in the model, which few accelerators run; the
    lowering is that for a TPU, which has no calls of a CPU's own libraries.

    Raises:
        UserError: LiteRT has no form for an operation.
    """
    program = path.with_name("program.mlir")
    program.write_text(lower(forward, ("tpu",), batch=1).mlir_module(), encoding="utf-8")
    try:
        # In a process of its own: on some programs (a whole PENet) the converter ends its process.
        words = [sys.executable, "-c", f"from {__name__} import convert; convert()", str(program), str(path)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        child = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    finally:
        program.unlink(missing_ok=True)
    if child.returncode:
        lacking = re.search(r"TF Select ops: (.*)", child.stderr)
        ended = child.returncode < 0  # by a signal; else by an exception, whose last line says why
        why = f"no form for {lacking[1] if lacking else 'an operation'} as {forward.name} has it"
        if not lacking and not ended:
            why = f"not converted {forward.name}: {child.stderr.strip().splitlines()[-1]}"
        raise UserError(f"--format=litert: LiteRT has {why}; use onnx")


def convert() -> None:
    """Converts the program whose path is the first word of the command line to the second, a .tflite."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else pages about TensorFlow's operations
    from litert_converter.mlir import ir, passmanager
    from litert_converter.mlir._mlir_libs import converter_api_ext as converter

    program, path = map(Path, sys.argv[1:])
    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse(program.read_text(encoding="utf-8"))
        converter.set_signature(module.operation, "serving_default", ["images"], ["probabilities"])
        converter.run_convert_to_tfl_passes(module, passmanager.PassManager(), converter.ConvertToTFLConfig())
        path.write_bytes(converter.export_flatbuffer_to_bytes(module.operation))


def open(forward: Forward, path: Path) -> Runnable:
    """The function of the written file, called for one image after the other."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path))
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:  # VGG on images below 64 px, whose last map is one pixel
        raise UserError(
            f"--format=litert: LiteRT does not run {forward.name} at this size ({error}); use onnx"
        ) from None
    (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def one(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        return np.array(interpreter.get_tensor(result["index"])[0])

    return Runnable(lambda images: np.stack([one(image) for image in images]), "LiteRT")
