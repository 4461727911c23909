"""Merge of given tensors into a network's structure; one error lists every name and shape that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import jax
import numpy as np

from ttl_jax import models
from ttl_jax.errors import UserError
from ttl_jax.typing import Variables
from ttl_jax.weights.initialise import fresh, unflatten
from ttl_jax.weights.keymaps import to_ours


@dataclass(frozen=True)
class Report:
    """Units that `load_with_report` loaded and units that start fresh, bottom to top, then "head"."""

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]


def merge(
    given: Mapping[str, np.ndarray],
    wanted: Mapping[str, jax.ShapeDtypeStruct],
    theirs: Mapping[str, str],
    name: str,
    *,
    start_fresh: AbstractSet[str],
    partial: bool,
    seed: int,
    said: str,
) -> tuple[Variables, Report]:
    """Fill a network's leaves from a file's tensors.

    Args:
        given: Tensors by their original names, in torch's layout.
        wanted: Shapes of our leaves by path.
        theirs: Original names by our path, of the whole network, because the file may hold units above a cut.
        name: Name of the network.
        start_fresh: Units (or "head") that are not taken from `given`.
        partial: Units of which `given` has nothing start fresh too.
        seed: Seed of everything that starts fresh.
        said: The source as the user wrote it, for the error.

    Raises:
        UserError: listing every missing, extra, mis-shaped and non-float tensor, or naming the first whose
            values no network can be trained from.
    """
    units = {path: models.unit_of(name, path.split("/")[1:]) for path in wanted}
    present = {units[path] for path in wanted if theirs.get(path) in given}
    absent = set(units.values()) - present - start_fresh
    skipped = start_fresh | (absent if partial else set())
    flat: dict[str, np.ndarray] = {}
    wrong = [f"extra {key}" for key in sorted(set(given) - set(theirs.values()))]
    for path, leaf in wanted.items():
        if units[path] in skipped:
            flat[path] = fresh(path, leaf.shape, seed)
        elif theirs[path] not in given:
            wrong.append(f"missing {theirs[path]}")
        else:
            value = given[theirs[path]]
            wrong += _unfit(theirs[path], value, _torch_shape(path, leaf.shape))
            if not wrong:
                with np.errstate(over="ignore"):  # a number beyond single precision is refused below
                    flat[path] = np.ascontiguousarray(to_ours(path, value), np.float32)
    if wrong:
        hint = "; say partial to let units that the file lacks start fresh" if absent - skipped else ""
        raise UserError(
            f"weights {said} do not fit {name} ({len(wrong)} names{hint}):\n  " + "\n  ".join(sorted(wrong))
        )
    for path in wanted:
        if units[path] not in skipped and (fault := _unusable(path, flat[path])):
            raise UserError(
                f"weights {said}: {theirs[path]} {fault}; the file is damaged or of a training "
                "that failed: take another one"
            )
    order = [unit.name for unit in models.units(name)] + ["head"]
    taken = set(units.values()) - skipped
    if not taken:
        raise UserError(f"weights {said} hold nothing of {name}")
    report = Report(
        tuple(unit for unit in order if unit in taken),
        tuple(unit for unit in order if unit in set(units.values()) & skipped),
    )
    return unflatten(flat), report


def _unfit(key: str, value: np.ndarray, shape: tuple[int, ...]) -> list[str]:
    """Return the faults of a tensor, one sentence each."""
    if value.shape != shape:
        return [f"shape of {key}: the file has {value.shape}, the network wants {shape}"]
    # Integers would be quantised weights, whose values mean something else.
    if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
        return [f"type of {key}: the file has {value.dtype}, the network wants floats"]
    return []


def _unusable(path: str, value: np.ndarray) -> str:
    """Return why a leaf's values cannot be trained from; "" if they can. A head may start from zeros."""
    finite = np.isfinite(value)
    if not finite.all():
        return (
            f"has values that are NaN or infinite ({value.size - np.count_nonzero(finite)} of {value.size})"
        )
    if path.endswith("/var") and (value < 0).any():
        return f"has negative variances ({np.count_nonzero(value < 0)} of {value.size})"
    if path.endswith(("/kernel", "/var")) and not path.startswith("params/head/") and not value.any():
        return "is zero throughout"
    return ""


def _torch_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not path.endswith("/kernel"):
        return shape
    return shape[::-1] if len(shape) == 2 else (shape[-1], shape[-2], *shape[:-2])
