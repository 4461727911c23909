"""Backbones: every network is an ordered tuple of named units that can be cut."""

from ttl_jax.models.layers.stochastic_norm import stochastic_norm
from ttl_jax.models.network import Network
from ttl_jax.models.registry import create, input_shape, names, network_of, stages, unit_of, units
from ttl_jax.models.unit import Unit

__all__ = [
    "Network", "Unit", "create", "input_shape", "names", "network_of", "stages", "stochastic_norm",
    "unit_of", "units",
]  # fmt: skip
