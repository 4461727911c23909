"""The behaviours of strategies, one file each; `part.py` has the protocol."""

from ttl_jax.strategies.parts.bss import SmallSingularValues
from ttl_jax.strategies.parts.cotuning import CoTuning
from ttl_jax.strategies.parts.delta import FeatureDistance
from ttl_jax.strategies.parts.ema import Ema
from ttl_jax.strategies.parts.measured_rates import MeasuredRates
from ttl_jax.strategies.parts.mixout import Mixout
from ttl_jax.strategies.parts.part import BoundPart, Ended, Part, Seen, Start
from ttl_jax.strategies.parts.pull import Pull
from ttl_jax.strategies.parts.solved_head import SolvedHead
from ttl_jax.strategies.parts.soup import Soup
from ttl_jax.strategies.parts.stochnorm import StochNorm
from ttl_jax.strategies.parts.wise_ft import WiseFT

__all__ = [
    "BoundPart", "CoTuning", "Ema", "Ended", "FeatureDistance", "MeasuredRates", "Mixout", "Part", "Pull",
    "Seen", "SmallSingularValues", "SolvedHead", "Soup", "Start", "StochNorm", "WiseFT",
]  # fmt: skip
