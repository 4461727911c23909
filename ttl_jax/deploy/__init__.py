"""A finished run put to use: loaded, shown images, evaluated elsewhere, explained, exported."""

from ttl_jax.deploy.finished_run import Run, load

__all__ = ["Run", "load"]
