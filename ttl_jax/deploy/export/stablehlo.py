"""Export to StableHLO: a program that JAX, XLA and IREE run on a CPU, GPU or TPU, with its weights inside."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax import export

from ttl_jax.deploy.export.format import Runnable
from ttl_jax.deploy.export.forward import Forward
from ttl_jax.models import cpu

FILE = "model.stablehlo"
NEEDS: tuple[tuple[str, ...], str] = (), ""
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def lower(forward: Forward, platforms: tuple[str, ...], batch: int | None = None) -> export.Exported:
    """The program of the probabilities, of JAX's own operations.

    Args:
        forward: the function to export.
        platforms: where it is to run.
        batch: number of images; None leaves it open.
    """
    with cpu.disabled():
        function = jax.jit(partial(forward.probabilities, forward.variables))
        return export.export(function, platforms=platforms)(forward.specification(batch))


def write(forward: Forward, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes what `jax.export.deserialize` reads; the metadata stand in signature.json beside it."""
    path.write_bytes(lower(forward, PLATFORMS).serialize())


def open(forward: Forward, path: Path) -> Runnable:
    """The function of the written file."""
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return Runnable(lambda images: np.asarray(call(images)), "jax.export")
