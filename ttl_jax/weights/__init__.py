"""Pretrained weights: readers, key maps, strict loading, the catalogue, and export."""

from ttl_jax.weights.inflate import inflate
from ttl_jax.weights.initialise import initialise
from ttl_jax.weights.load import find, load, load_with_report, preprocessing
from ttl_jax.weights.merge import Report
from ttl_jax.weights.preprocessing import Preprocessing
from ttl_jax.weights.pretrained import listing
from ttl_jax.weights.readers import read
from ttl_jax.weights.state_dict import export_torch

__all__ = [
    "Preprocessing", "Report", "export_torch", "find", "inflate", "initialise", "listing", "load",
    "load_with_report", "preprocessing", "read",
]  # fmt: skip
