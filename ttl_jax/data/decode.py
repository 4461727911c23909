"""The path that it had before: use ttl_jax.data.images.decode."""

from ttl_jax.data.images.decode import *  # noqa: F403
