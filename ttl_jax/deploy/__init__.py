"""A finished run put to use: loaded, shown images, evaluated elsewhere, explained, exported."""

from ttl_jax.deploy.run import Run, load

__all__ = ["Run", "load"]
