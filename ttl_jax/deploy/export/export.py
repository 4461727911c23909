"""The export of a finished run: a file that was checked, and what must travel with it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.deploy.export import format, model_card, quantize, web
from ttl_jax.deploy.export.check_images import CHECKED, CheckImages, generated_images, read_check_images
from ttl_jax.deploy.export.format import Predict
from ttl_jax.deploy.export.forward import Forward, forward_of
from ttl_jax.errors import UserError, of_system
from ttl_jax.system.whole_file import whole_file
from ttl_jax.training.records import signature
from ttl_jax.training.result import Result

TOLERANCE = 1e-4  # of a probability, against JAX
FOLDER = "export"


class InexactExportError(RuntimeError):
    """The exported file does not compute what the run does; it was not kept."""


@dataclass(frozen=True)
class Exported:
    """An export that was checked.

    Attributes:
        path: the file.
        largest_error: the largest difference of a probability to JAX's.
        images: what it was checked on.
        runtime: what ran it.
        quantised: what int8 changed; None without it.
    """

    path: Path
    largest_error: float
    images: str
    runtime: str
    quantised: quantize.Change | None = None


def export(
    run: Result,
    format_name: str = "onnx",
    *,
    quantized: str | None = None,
    images: Any = None,
    out: str | os.PathLike[str] | None = None,
    onnxruntime_web: str | None = None,
) -> Exported:
    """Writes a run's network for another runtime, and keeps the file only if it computes what JAX does.

    Beside it lie signature.json (preprocessing, classes, thresholds), README.md (a model card) and
    CHECKLIST.md (CLAIM and TRIPOD+AI, filled in from the run).

    Args:
        run: a finished run.
        format_name: one of `format.FORMATS`.
        quantized: "int8" for 8-bit weights and activations (ONNX).
        images: what to check on and calibrate with, as `Run.predict` takes them; None generates some.
        out: folder; None = "export" in the run's.
        onnxruntime_web: of "web": folder of the unpacked npm package; None takes what came with ttl_jax.

    Raises:
        UserError: no such format, libraries that are not installed, images that cannot be read.
        InexactExportError: the file's probabilities are not those of JAX.
    """
    if quantized not in (None, "int8"):
        raise UserError(f"--quantize={quantized} does not exist: the one kind is int8")
    if quantized and format_name != "onnx":
        raise UserError(f"--quantize=int8 is for --format=onnx, not for {format_name}")
    written = format.find(format_name)
    format.require("export", ("huggingface_hub",), "'ttl-jax[export]'")
    forward, known = forward_of(run), run.signature
    browser = web.find_runtime(known, onnxruntime_web) if format_name == "web" else []
    shown = generated_images(known) if images is None else read_check_images(images, known)
    folder = _folder(Path(out) if out is not None else run.workdir / FOLDER)
    path = folder / written.FILE
    with whole_file(path) as draft:
        written.write(forward, draft, metadata_of(run))
        run_file, runtime = written.open(forward, draft)
        error = largest_error(forward, run_file, shown)
    change = None
    if quantized:
        change = quantize.quantize(path, path.with_suffix(".int8.onnx"), shown, known)
        path = path.with_suffix(".int8.onnx")
    made = Exported(path, error, _seen(shown), runtime, change)
    signature.write(folder, known)
    if browser:
        web.write_page(folder, browser)
    model_card.write(folder, run, made)
    return made


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise of_system(OSError(error.errno, error.strerror, f"--out={folder}")) from None
    return folder


def metadata_of(run: Result) -> dict[str, str]:
    """Metadata of the exported file: classes, network, version, and all of signature.json."""
    known = run.signature
    return {
        "class_names": json.dumps(known.class_names),
        "task": known.task,
        "network": known.network.name,
        "cut": str(known.network.cut or ""),
        "strategy": known.network.strategy,
        "ttl_jax": known.version,
        "signature": json.dumps(known.to_json()),
        "intended_use": "research use only",
    }


def largest_error(forward: Forward, predict: Predict, shown: CheckImages) -> float:
    """The largest difference of a probability to JAX's, on images one at a time and all together.

    Raises:
        InexactExportError: it is above the tolerance, or no number.
    """
    images = shown.images[:CHECKED]
    wanted = forward(images)
    error = float(np.abs(predict(images) - wanted).max())
    error = max(error, float(np.abs(predict(images[:1]) - wanted[:1]).max()))
    if not error < TOLERANCE:
        raise InexactExportError(
            f"the exported probabilities differ from JAX's by up to {error:.2g} (allowed: {TOLERANCE}); "
            "the file was not kept"
        )
    return error


def _seen(shown: CheckImages) -> str:
    return f"{CHECKED} of {shown.origin}" if len(shown.images) > CHECKED else shown.origin
