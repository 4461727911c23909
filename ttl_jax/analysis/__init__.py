"""What networks have learnt and what they cost: similarity, transferability, compactness."""

from ttl_jax.analysis.cost import Cost, cost, cost_of
from ttl_jax.analysis.macs import count

__all__ = ["Cost", "cost", "cost_of", "count"]
