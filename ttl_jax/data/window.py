"""The path that it had before: use ttl_jax.data.sources.window."""

from ttl_jax.data.sources.window import *  # noqa: F403
