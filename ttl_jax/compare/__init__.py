"""Strategies x models x data sets x seeds from one config, resumable, and what came of it."""

from ttl_jax.compare.config import default_config
from ttl_jax.compare.run import FailedCellsError, compare

__all__ = ["FailedCellsError", "compare", "default_config"]
