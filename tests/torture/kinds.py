"""The kinds of files that fuzz.py makes and reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import hostile_weights
from fuzz import Case, mutated


def weights(seed: int, mutations: int) -> Iterator[Case]:
    return chain(hostile_weights.hostile(seed), mutated("weights", hostile_weights.honest(), mutations, seed))


KINDS = {"weights": weights}
