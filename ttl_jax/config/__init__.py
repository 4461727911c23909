"""The config: the fields of a run and of its data, each with its default."""

from ttl_jax.config.data import DataConfig, data_config
from ttl_jax.config.run import default_config, parse_arg, paths, set_fields

__all__ = ["DataConfig", "data_config", "default_config", "parse_arg", "paths", "set_fields"]
