"""Maps from our tensor names to the original library's, as data."""

from ttl_jax.weights.keymaps.table import canonical, names_of, to_ours, to_torch

__all__ = ["canonical", "names_of", "to_ours", "to_torch"]
