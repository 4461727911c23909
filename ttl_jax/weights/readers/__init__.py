"""Readers of weight files, one per format, as {name: array}."""

from ttl_jax.weights.readers.read import read

__all__ = ["read"]
