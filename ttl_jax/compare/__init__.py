"""Strategies x models x data sets x seeds from one config, resumable, and what came of it."""

from ttl_jax.compare.comparison import FailedCellsError, compare
from ttl_jax.compare.config import default_config

__all__ = ["FailedCellsError", "compare", "default_config"]
