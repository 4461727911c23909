"""The config: the fields of a run and of its data, each declared once."""

from ttl_jax.config.data import DataConfig, data_config
from ttl_jax.config.fields import paths, replace_fields, set_fields, typed, unknown_field
from ttl_jax.config.run import FREE, RunConfig, default_config, parse_arg, run_config

__all__ = [
    "FREE", "DataConfig", "RunConfig", "data_config", "default_config", "parse_arg", "paths",
    "replace_fields", "run_config", "set_fields", "typed", "unknown_field",
]  # fmt: skip
