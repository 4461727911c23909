"""Export of the weights alone, by the paths of the Flax module: `model.weights=FILE` starts from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ttl_jax.deploy.export.format import Runnable
from ttl_jax.deploy.export.forward import Forward
from ttl_jax.weights import read
from ttl_jax.weights.initialise import flatten, unflatten

FILE = "model.safetensors"
NEEDS: tuple[tuple[str, ...], str] = (), ""


def write(forward: Forward, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes float32 tensors named "params/stem/conv/kernel"."""
    from safetensors.numpy import save

    leaves = {name: np.ascontiguousarray(value) for name, value in flatten(forward.variables).items()}
    path.write_bytes(save(leaves, dict(metadata)))


def open(forward: Forward, path: Path) -> Runnable:
    """The network with the weights that were written."""
    return Runnable(replace(forward, variables=unflatten(read(path))), "JAX with the weights of the file")
