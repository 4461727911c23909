"""Readers of weight files, one per format, as {name: array}."""

from ttl_jax.weights.readers.weight_file import read

__all__ = ["read"]
