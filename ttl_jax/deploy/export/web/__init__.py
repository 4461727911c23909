"""Export as a folder of static files that predicts in a browser: an image never leaves the machine.

The model is the ONNX file, run by onnxruntime-web; what stands before it is preprocess.js.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

from ttl_jax.deploy.export import onnx
from ttl_jax.errors import UserError
from ttl_jax.training.records.signature import Signature

FILE, NEEDS = onnx.FILE, onnx.NEEDS
write, open = onnx.write, onnx.open
_HERE = Path(__file__).parent
VENDOR = _HERE / "vendor"  # filled by `make web`, and carried by the wheel
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
OWN = ("page.js", "preprocess.js")


def find_runtime(known: Signature, given: str | None = None) -> list[Path]:
    """The files of onnxruntime-web.

    Args:
        known: the run's signature.
        given: folder of the unpacked npm package; None takes those that came with ttl_jax.

    Raises:
        UserError: they are not there, or the run takes volumes.
    """
    if known.geometry.depth:
        raise UserError("--format=web is for flat images, and this run takes volumes: use --format=onnx")
    places = (VENDOR,) if given is None else (Path(given), Path(given) / "dist")
    for place in places:
        if all((place / name).is_file() for name in RUNTIME):
            return [place / name for name in RUNTIME]
    if given is not None:
        raise UserError(f"--onnxruntime_web={given} holds no {RUNTIME[0]}: name the unpacked npm package")
    raise UserError(
        "--format=web needs onnxruntime-web, which this installation does not hold: say `make web` in a "
        "checkout, or `npm pack onnxruntime-web`, unpack it and add --onnxruntime_web=package"
    )


def write_page(folder: Path, runtime: list[Path]) -> None:
    """Write the page beside model.onnx and signature.json."""
    for path in [*runtime, *(_HERE / name for name in OWN)]:
        shutil.copyfile(path, folder / path.name)
    (style,) = re.findall(
        r"<style>(.*?)</style>", (_HERE.parents[1] / "serve.html").read_text(encoding="utf-8"), re.DOTALL
    )
    (folder / "style.css").write_text(style.lstrip(), encoding="utf-8")
    page = (_HERE / "index.html").read_text(encoding="utf-8")
    (folder / "index.html").write_text(
        page.replace("TALL_FIRST", str(tall_first()).lower()), encoding="utf-8"
    )


def tall_first() -> bool:
    """True where this Pillow scales the height of a tall image first, as version 13: pixels differ by 1."""
    from PIL import Image

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 16), np.uint8))
    ways = Image.Resampling.BILINEAR
    direct = image.resize((12, 16), ways)
    return direct.tobytes() == image.resize((16, 16), ways).resize((12, 16), ways).tobytes()
