"""Starting weights out of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ttl_jax import models
from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError
from ttl_jax.models.registry import position
from ttl_jax.training.kept import Kept
from ttl_jax.training.records.signature import Architecture
from ttl_jax.typing import Variables
from ttl_jax.weights import Report
from ttl_jax.weights.initialise import flatten, fresh, template, unflatten
from ttl_jax.weights.load import slim_units


def variables_from_run(
    kept: Kept, config: RunConfig, shape: Mapping[str, Any], class_names: Sequence[str]
) -> tuple[Variables, Report]:
    """Build the variables of a new run from those that a finished one kept.

    The head is kept where it stands on the same unit and its classes are the same, by name and in order;
    else it starts fresh. All else has to fit.

    Args:
        kept: the finished run.
        config: the new run's config.
        shape: of the new network, as `Surgery.shape` gives it.
        class_names: the new run's classes.

    Raises:
        UserError: another network, or leaves that are missing or of another shape, each named.
    """
    name, old = config.model.name, kept.signature.network
    if old.name != name:
        raise UserError(
            f"model.weights={config.model.weights} is a run of {old.name}, which model.name is not ({name})"
        )
    sizes = {"channels": kept.signature.normalisation.channels, "image_size": config.data.image_size}
    wanted = template(name, len(class_names), **sizes, **shape)
    held = flatten(kept.variables)
    units = {path: models.unit_of(name, path.split("/")[1:]) for path in wanted}
    new = Architecture(name, **shape)
    begins = set() if _slimmed(old) == _slimmed(new) else slim_units(wanted, template(name, 1), name)
    same = kept.signature.class_names == tuple(class_names) and _ends(old) == _ends(new) and not begins
    if not same or any(_unlike(held, path, wanted) for path in wanted if units[path] == "head"):
        begins |= {"head"}
    present = {unit for path, unit in units.items() if path in held}
    if config.model.partial:
        begins |= set(units.values()) - present
    wrong = [
        f"{'shape of' if path in held else 'missing'} {path}"
        for path in wanted
        if units[path] not in begins and _unlike(held, path, wanted)
    ]
    if wrong:
        hint = ""
        if old.cut is not None and set(units.values()) - present - {"head"}:
            hint = (
                f" (it ends at unit {old.cut}: cut this run there too, or let the units above start fresh: "
                "model.partial=True)"
            )
        raise UserError(
            f"the weights of {config.model.weights} do not fit this {name}{hint}:\n  " + "\n  ".join(wrong)
        )
    flat = {
        path: fresh(path, leaf.shape, config.seed) if units[path] in begins else np.asarray(held[path])
        for path, leaf in wanted.items()
    }
    order = [*[unit.name for unit in models.units(name)], "head"]
    known = set(units.values())
    loaded, started = known - begins, known & begins
    report = Report(
        tuple(unit for unit in order if unit in loaded), tuple(unit for unit in order if unit in started)
    )
    return unflatten(flat), report


def _unlike(held: Mapping[str, Any], path: str, wanted: Mapping[str, Any]) -> bool:
    return path not in held or held[path].shape != wanted[path].shape


def _slimmed(built: Architecture) -> tuple[Any, ...]:
    return (built.slim_from, built.slim if built.slim_from is not None else None)


def _ends(built: Architecture) -> tuple[Any, ...]:
    """The unit that the head stands on, and its kind."""
    count = len(models.units(built.name))
    last = count if built.cut is None else position(built.name, built.cut)
    return last, built.head or ("own" if last == count else "gap")
