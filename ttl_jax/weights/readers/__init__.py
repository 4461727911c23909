"""Weight files to {name: array}, one reader a format."""

from ttl_jax.weights.readers.read import read

__all__ = ["read"]
