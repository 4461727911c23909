"""Former path of the module: use ttl_jax.data.images.decode."""

from ttl_jax.data.images.decode import *  # noqa: F403
