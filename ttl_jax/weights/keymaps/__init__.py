"""Names of tensors: ours <-> the original library's, as data, in one direction."""

from ttl_jax.weights.keymaps.table import canonical, names_of, to_ours, to_torch

__all__ = ["canonical", "names_of", "to_ours", "to_torch"]
