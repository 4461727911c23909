"""Fine-tuning strategies as data: phases of label rules, and the trees that they give."""

from ttl_jax.strategies.anatomy import Anatomy, Leaf, anatomy_of, flatten, unflatten
from ttl_jax.strategies.catalogue import LENGTHS, STRENGTHS
from ttl_jax.strategies.labels import LabelledPhase, LabelRow, bind, labels, table
from ttl_jax.strategies.parse import get, names, open_strengths, parse, terms, text_of, title, with_options
from ttl_jax.strategies.parts import BoundPart, Part, Pull
from ttl_jax.strategies.strategy import FREEZE, TRAIN, Phase, Strategy, Surgery, Train

__all__ = [
    "FREEZE", "LENGTHS", "STRENGTHS", "TRAIN", "Anatomy", "BoundPart", "LabelRow", "LabelledPhase", "Leaf",
    "Part", "Phase", "Pull", "Strategy", "Surgery", "Train", "anatomy_of", "bind", "flatten", "get", "labels",
    "names", "open_strengths", "parse", "table", "terms", "text_of", "title", "unflatten", "with_options",
]  # fmt: skip
