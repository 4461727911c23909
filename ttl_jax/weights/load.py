"""Pretrained variables for a network: strict about every name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ttl_jax import models
from ttl_jax.errors import UserError
from ttl_jax.typing import Variables
from ttl_jax.weights.catalogue import locate
from ttl_jax.weights.initialise import flatten, fresh, template, unflatten
from ttl_jax.weights.keymaps import canonical, names_of, to_ours
from ttl_jax.weights.readers import read


@dataclass(frozen=True)
class Report:
    """What `load_with_report` took and what it started fresh (units, or "head")."""

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]


def load(
    source: str | Path | Mapping[str, np.ndarray],
    name: str,
    *,
    num_classes: int | None = None,
    cut: int | str | None = None,
    slim_from: int | None = None,
    slim: int = 2,
    head: str | None = None,
    partial: bool = False,
    seed: int = 0,
    image_size: int = 224,
) -> Variables:
    """Loads pretrained weights into a network's structure.

    Args:
        source: a catalogue key such as "imagenet", a path, or a state dict (names to arrays) of
            torchvision, timm, torchxrayvision, Keras, or our own ("params/stem/conv/kernel").
        name: the network.
        num_classes: outputs of the head; None = as the file has it. The file's head is taken over
            when it fits, else a fresh one starts from the seed.
        cut, slim_from, slim, head: as `models.create` takes them. Units above the cut are left out;
            units from the slim one on start fresh.
        partial: units that the file lacks altogether start fresh instead of being an error.
        seed: of whatever starts fresh.
        image_size: matters to a "flatten" head only.

    Returns:
        {"params", "batch_stats"} of float32 arrays, complete.

    Raises:
        UserError: listing every missing, extra and mis-shaped name, of parameters and statistics.
    """
    return load_with_report(
        source, name, num_classes=num_classes, cut=cut, slim_from=slim_from, slim=slim, head=head,
        partial=partial, seed=seed, image_size=image_size,
    )[0]  # fmt: skip


def load_with_report(
    source: str | Path | Mapping[str, np.ndarray],
    name: str,
    *,
    num_classes: int | None = None,
    cut: int | str | None = None,
    slim_from: int | None = None,
    slim: int = 2,
    head: str | None = None,
    partial: bool = False,
    seed: int = 0,
    image_size: int = 224,
) -> tuple[Variables, Report]:
    """`load`, with a report of what was taken and what started fresh."""
    models.units(name)  # an unknown network is the first thing to say
    arrays, said = _arrays(source, name)
    given = canonical(arrays, name)
    whole = template(name, 1, channels=_channels(given, name))
    theirs = names_of(whole, name)
    if any(key.startswith("params/") for key in given):  # our own names
        given = {theirs[key] if key in theirs else key: _as_torch(key, value)
                 for key, value in given.items()}  # fmt: skip
    classes = num_classes if num_classes is not None else _classes(given, theirs, said, name)
    wanted = template(
        name, classes, channels=_channels(given, name), image_size=image_size,
        cut=cut, slim_from=slim_from, slim=slim, head=head,
    )  # fmt: skip
    units = {path: models.unit_of(name, path.split("/")[1:]) for path in wanted}
    start_fresh = _slim_units(wanted, whole, name) if slim_from is not None else set()
    start_fresh |= _head_fresh(wanted, given, theirs)
    missing_units = {
        unit for unit in set(units.values()) - start_fresh
        if not any(theirs[path] in given for path in wanted if units[path] == unit)
    }  # fmt: skip
    if partial:
        start_fresh |= missing_units
    flat: dict[str, np.ndarray] = {}
    wrong: list[str] = []
    for path, leaf in wanted.items():
        if units[path] in start_fresh:
            flat[path] = fresh(path, leaf.shape, seed)
        elif theirs[path] not in given:
            wrong.append(f"missing {theirs[path]}")
        else:
            value = _fit(path, given[theirs[path]])
            if value is None or value.shape != leaf.shape:
                wrong.append(
                    f"shape of {theirs[path]}: the file has {given[theirs[path]].shape}, "
                    f"the network wants {_torch_shape(path, leaf.shape)}"
                )
            else:
                flat[path] = np.ascontiguousarray(value, np.float32)
    wrong += [f"extra {key}" for key in given if key not in set(theirs.values())]
    if wrong:
        hint = (
            "; say partial to let units that the file lacks start fresh"
            if missing_units and not partial
            else ""
        )
        raise UserError(
            f"weights {said} do not fit {name} ({len(wrong)} names{hint}):\n  " + "\n  ".join(sorted(wrong))
        )
    order = [unit.name for unit in models.units(name)] + ["head"]
    taken = set(units.values()) - start_fresh
    report = Report(
        tuple(unit for unit in order if unit in taken),
        tuple(unit for unit in order if unit in start_fresh),
    )
    return unflatten(flat), report


def _arrays(source: str | Path | Mapping[str, np.ndarray], name: str) -> tuple[dict[str, np.ndarray], str]:
    if isinstance(source, Mapping):
        if set(source) <= {"params", "batch_stats"}:  # variables
            return {key: np.asarray(value) for key, value in flatten(source).items()}, "given"
        return {key: np.asarray(value) for key, value in source.items()}, "given"
    path = Path(source)
    if not path.exists() and len(path.parts) == 1 and not path.suffix:
        path = locate(str(source), name)
    return read(path), str(source)


def _channels(given: Mapping[str, np.ndarray], name: str) -> int:
    """Channels of the images that the file's first convolution was made for."""
    first = names_of([_first_kernel(name)], name)[_first_kernel(name)]
    if first in given and given[first].ndim == 4:
        return int(given[first].shape[1])
    return 3


def _first_kernel(name: str) -> str:
    return "params/stage1/conv1/kernel" if name.startswith("vgg") else "params/stem/conv/kernel"


def _classes(given: Mapping[str, np.ndarray], theirs: Mapping[str, str], said: str, name: str) -> int:
    key = theirs["params/head/kernel"]
    if key not in given:
        raise UserError(f"weights {said} hold no head ({key}) for {name}: say num_classes")
    return int(given[key].shape[0])


def _head_fresh(
    wanted: Mapping[str, object], given: Mapping[str, np.ndarray], theirs: Mapping[str, str]
) -> set[str]:
    """{"head"} unless the file's head is the one that is wanted."""
    heads = [path for path in wanted if path.split("/")[1] == "head"]
    fits = all(
        path in theirs
        and theirs[path] in given
        and (value := _fit(path, given[theirs[path]])) is not None
        and value.shape == wanted[path].shape  # type: ignore[attr-defined]
        for path in heads
    )
    return set() if fits else {"head"}


def _slim_units(wanted: Mapping, whole: Mapping, name: str) -> set[str]:
    """The units from the first one whose widths differ from the whole network's."""
    changed = {
        models.unit_of(name, path.split("/")[1:])
        for path, leaf in wanted.items()
        if path.split("/")[1] != "head" and leaf.shape != whole[path].shape
    }
    order = [unit.name for unit in models.units(name)]
    first = min((order.index(unit) for unit in changed), default=len(order))
    return set(order[first:])


def _fit(path: str, value: np.ndarray) -> np.ndarray | None:
    """A tensor in our layout, or None where its rank or size cannot be right."""
    try:
        return to_ours(path, value)
    except ValueError:
        return None


def _as_torch(path: str, value: np.ndarray) -> np.ndarray:
    from ttl_jax.weights.keymaps import to_torch

    return to_torch(path, value)


def _torch_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not path.endswith("/kernel"):
        return shape
    return shape[::-1] if len(shape) == 2 else (shape[-1], shape[-2], *shape[:-2])
