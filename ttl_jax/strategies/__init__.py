"""Fine-tuning strategies as data: phases of label rules, and the trees that they give."""

from ttl_jax.strategies.anatomy import Anatomy, Leaf, anatomy_of, flatten, unflatten
from ttl_jax.strategies.catalogue import get, names
from ttl_jax.strategies.labels import LabelledPhase, LabelRow, bind, labels, table
from ttl_jax.strategies.parse import parse
from ttl_jax.strategies.penalties import Pull
from ttl_jax.strategies.probe import Probe
from ttl_jax.strategies.strategy import FREEZE, TRAIN, Phase, Strategy, Surgery, Train

__all__ = [
    "FREEZE", "TRAIN", "Anatomy", "LabelRow", "LabelledPhase", "Leaf", "Phase", "Probe", "Pull", "Strategy",
    "Surgery", "Train", "anatomy_of", "bind", "flatten", "get", "labels", "names", "parse",
    "table", "unflatten",
]  # fmt: skip
