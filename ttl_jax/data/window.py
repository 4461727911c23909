"""Former path of the module: use ttl_jax.data.sources.window."""

from ttl_jax.data.sources.window import *  # noqa: F403
