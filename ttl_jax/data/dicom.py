"""Former path of the module: use ttl_jax.data.sources.dicom."""

from ttl_jax.data.sources.dicom import *  # noqa: F403
