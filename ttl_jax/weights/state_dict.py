"""Export of our variables as a state dict of the original library."""

from __future__ import annotations

from typing import Any

import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.weights.initialise import flatten
from ttl_jax.weights.keymaps import names_of, to_torch
from ttl_jax.weights.keymaps.transfer import as_exported


def export_torch(variables: Any, name: str) -> dict[str, np.ndarray]:
    """Return a state dict in torchvision's names and layouts (or the original library's); bitwise exact.

    torch's `num_batches_tracked` counters are not weights and are left out.

    Args:
        variables: {"params", "batch_stats"} of the network, whole or cut.
        name: Name of the network.

    Raises:
        UserError: the library's network has nothing like a leaf (a hidden layer in the head).
    """
    flat = {path: np.asarray(value) for path, value in flatten(variables).items()}
    try:
        names = names_of(flat, name)
    except KeyError as error:
        raise UserError(f"cannot be exported: {error.args[0]}") from None
    return {
        names[path]: as_exported(names[path], to_torch(path, value), name) for path, value in flat.items()
    }
