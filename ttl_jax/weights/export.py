"""The way back: our variables as a state dict of the original library."""

from __future__ import annotations

from typing import Any

import numpy as np

from ttl_jax.weights.initialise import flatten
from ttl_jax.weights.keymaps import names_of, to_torch


def export_torch(variables: Any, name: str) -> dict[str, np.ndarray]:
    """Names and layouts of torchvision (Lite0: of its PyPI package); exact, bit for bit.

    torch's `num_batches_tracked` counters are not weights and are left out.
    """
    flat = {path: np.asarray(value) for path, value in flatten(variables).items()}
    names = names_of(flat, name)
    return {names[path]: to_torch(path, value) for path, value in flat.items()}
