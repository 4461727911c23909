"""Writes a finished run for another runtime, checks the file, and prints what was checked."""

from __future__ import annotations

from ttl_jax.commands.arguments import Parser
from ttl_jax.errors import UserError
from ttl_jax.system import remote
from ttl_jax.system.compilation_cache import set_up_jax

SUMMARY = "write a finished run for other programs, or as a web page"

HELP = """usage: ttl-jax export RUN [--format=onnx] [--quantize=int8] [--images=PATH]
                      [--out=DIR]

Writes the network with its preprocessing inside (uint8 images in, calibrated
probabilities out, any number of images), runs the file on 64 images and keeps
it only if no probability differs from JAX's by 1e-4. Beside it lie
signature.json (how an image is prepared, classes, thresholds), README.md (a
model card) and CHECKLIST.md (CLAIM and TRIPOD+AI, filled in from the run).
torch and safetensors hold the weights alone.

  --format=onnx            or litert (.tflite), stablehlo, torch (a state dict
                           of torchvision), safetensors (model.weights=FILE
                           starts a run from it), web (a folder that predicts
                           in a browser: no image leaves the machine)
  --quantize=int8          onnx: an 8-bit model too, and what it changes
  --images=PATH            images to check on and to take the ranges of 8 bits
                           from, as `predict` takes them; in folders named by
                           class, AUROC and calibration are compared. Without
                           it images are generated
  --out=DIR                RUN/export where none is named
  --onnxruntime_web=DIR    web: its unpacked npm package, where ttl_jax has none

examples:
  ttl-jax export runs/skin
  ttl-jax export runs/skin --quantize=int8 --images=data/val --out=skin-onnx
  ttl-jax export runs/skin --format=litert
"""


def run(arguments: list[str]) -> None:
    """Writes a finished run for another runtime."""
    parser = Parser("export")
    parser.add_argument("run")
    parser.add_argument("--format", default="onnx")
    parser.add_argument("--quantize")
    parser.add_argument("--images")
    parser.add_argument("--out")
    parser.add_argument("--onnxruntime_web")
    given = parser.parse_args(arguments)
    for path in filter(remote.is_remote, (given.out or given.run,)):
        raise UserError(f"an export is written to this machine, not to {path}: give --out=DIR")
    set_up_jax()
    from ttl_jax.deploy.export.export import export
    from ttl_jax.deploy.finished_run import load

    made = export(
        load(given.run),
        given.format,
        quantized=given.quantize,
        images=given.images,
        out=given.out,
        onnxruntime_web=given.onnxruntime_web,
    )
    size = made.path.stat().st_size / 1e6
    print(f"{made.path}: {size:.1f} MB")
    print(
        f"checked by {made.runtime} on {made.images}: the largest difference of a probability to JAX's is "
        f"{made.largest_error:.1g}"
    )
    if made.quantised is not None:
        from ttl_jax.deploy.export.model_card import quantised_text

        print(quantised_text(made))
    if given.format == "web":
        print(f"to see it: python -m http.server --bind 127.0.0.1 --directory {made.path.parent}")
    print(f"model card: {made.path.parent / 'README.md'}, checklists: {made.path.parent / 'CHECKLIST.md'}")
