"""Names of tensors: ours <-> the original library's, one file a family."""

from ttl_jax.weights.keymaps.table import canonical, names_of, to_ours, to_torch

__all__ = ["canonical", "names_of", "to_ours", "to_torch"]
