"""The path that it had before: use ttl_jax.data.sources.dicom."""

from ttl_jax.data.sources.dicom import *  # noqa: F403
