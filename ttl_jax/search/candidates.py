"""The candidates of a search: what choosing a unit means for each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ttl_jax import models
from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies import anatomy_of

KINDS = ("ttl", "tf", "lwft")


@dataclass(frozen=True)
class Point:
    """One candidate.

    Attributes:
        unit: 1-based index: the last unit kept (ttl), kept at full width (tf), or frozen (lwft).
        name: name of the unit.
        strategy: the candidate's strategy, as a run's config takes it.
        shape: keyword arguments of `models.create` that build the candidate's network.
    """

    unit: int
    name: str
    strategy: str
    shape: dict[str, Any]


def points(kind: str, model: str, base: str = "full") -> tuple[Point, ...]:
    """Every candidate of a network, bottom to top.

    Args:
        kind: "ttl", "tf" or "lwft".
        model: the network.
        base: a strategy that is added to each, as "l2_sp(alpha=0.01)"; "full" adds nothing.

    Raises:
        UserError: an unknown kind or network, or one that cannot be made slim.
    """
    if kind not in KINDS:
        raise UserError(f"config search.kind={kind!r}{nearest(kind, KINDS)}")
    units, added = models.units(model), "" if base in ("", "full") else f"+{base}"
    if kind == "ttl":
        return tuple(Point(u.index, u.name, f"truncated({u.index}){added}", {"cut": u.index}) for u in units)
    if kind == "lwft":  # freezing up to a pool is freezing up to what is below it
        holding = _units_with_parameters(model)
        return tuple(
            Point(u.index, u.name, f"layerwise({u.index}){added}", {}) for u in units if u.index in holding
        )
    cuts = [
        Point(kept, units[kept - 1].name, f"transfusion({block}){added}", {"slim_from": block})
        for block, kept in _slim_points(model)
        if kept  # else nothing pretrained would be left
    ]
    whole = Point(units[-1].index, units[-1].name, base or "full", {})
    return (*cuts, whole)


def _units_with_parameters(model: str) -> set[int]:
    network = models.create(model, 2)
    image = jax.ShapeDtypeStruct((1, *models.input_shape(model)), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    anatomy = anatomy_of(shapes, model)
    return {leaf.unit for leaf in anatomy.leaves} - {anatomy.head}


def _slim_points(model: str) -> list[tuple[int, int]]:
    """(slim_from, units below the first one that gets thinner), for every block of a network."""
    whole, thinned = models.create(model, 2).units, []
    for block in range(1, len(whole) + 1):
        try:
            thinner = models.create(model, 2, slim_from=block).units
        except UserError:  # past the last block, or a network that cannot be made slim at all
            if block == 1:
                raise
            break
        thinned.append((block, next(n for n, (old, new) in enumerate(zip(whole, thinner)) if old != new)))  # noqa: B905
    return thinned


def chosen(text: str, known: Sequence[int], field: str) -> tuple[int, ...]:
    """Reads units as "2-9,12".

    Raises:
        UserError: not of that form, or units that are no candidates.
    """
    asked: set[int] = set()
    for item in text.split(","):
        first, dash, last = item.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UserError(f"config {field}={text!r} is not of the form 2-9,12")
        asked |= set(range(int(first), int(last or first) + 1))
    strange = sorted(asked - set(known))
    if strange:
        raise UserError(f"config {field}: {strange[0]} is no candidate; there are {list(known)}")
    return tuple(sorted(asked))


def boundaries(model: str, candidates: Sequence[int]) -> tuple[int, ...]:
    """The candidates nearest to the network's own stage boundaries, from below."""
    near = {
        max((unit for unit in candidates if unit <= stage.index), default=candidates[0])
        for stage in models.stages(model)
    }
    return tuple(sorted(near))
