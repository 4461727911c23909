"""Every network by its name, its units and stages, and where a parameter lies."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp

from ttl_jax import registry
from ttl_jax.errors import UserError, nearest
from ttl_jax.models.network import HEADS, Head, Network
from ttl_jax.models.unit import Plan, Unit

# Each registers its networks, in this order: the first of several that fit is what `network_of` says.
from ttl_jax.models import (  # isort: skip  # noqa: F401
    resnet, densenet, vgg, efficientnet, alexnet, cbr, volume, bit, clip, penet,
)  # fmt: skip

CLASSIFIER = "classifier"  # stage of fully connected layers that a pooled head replaces
OWN_POOL = "own_pool"  # stage of a pool with parameters (CLIP's attention), which another head replaces


def names() -> tuple[str, ...]:
    """The registered networks."""
    return registry.names("backbone")


def slimmable(name: str) -> bool:
    """Return whether a network can be slim above a block: its function then takes `slim_from` and `slim`."""
    return "slim_from" in inspect.signature(_entry(name)).parameters


def _entry(name: str) -> Callable[..., Plan]:
    entry = registry.get("backbone", name, f"there is no model {name!r}")
    if not callable(entry) or "dtype" not in inspect.signature(entry).parameters:
        raise UserError(f"model {name!r} is no function (name, dtype) -> Plan: see docs/own.md")
    return entry


def _plan(name: str, dtype: Any, slim_from: int | None, slim: int) -> Plan:
    entry, slims = _entry(name), slimmable(name)
    if slim_from is not None and not slims:
        able = ", ".join(known for known in names() if slimmable(known))
        raise UserError(f"slim_from is for {able}, not for {name!r}")
    plan = entry(name, dtype, slim_from, slim) if slims else entry(name, dtype)
    if not isinstance(plan, Plan):
        raise UserError(f"model {name!r} is a function that returns {type(plan).__name__}, not a Plan")
    if slim_from is not None and plan == entry(name, dtype, None, slim):
        raise UserError(f"slim_from={slim_from}, slim={slim} leaves {name} as it is: count blocks from 1")
    return plan


class _Known(NamedTuple):
    """Facts about a whole network that are asked for again and again, and so cached."""

    units: tuple[Unit, ...]
    paths: dict[str, str]  # of modules -> their unit
    dimensions: int


def _known(name: str) -> _Known:
    return _known_of(_entry(name), name)  # an edited file has another function


@cache
def _known_of(entry: Callable[..., Plan], name: str) -> _Known:
    plan = _plan(name, jnp.float32, None, 2)
    units = tuple(Unit(spec.name, spec.stage, number) for number, spec in enumerate(plan.units, start=1))
    paths = {path: spec.name for spec in plan.units for path, _ in spec.parts}
    return _Known(units, paths, plan.dimensions)


def units(name: str) -> tuple[Unit, ...]:
    """The units of a network, bottom to top.

    Raises:
        UserError: no such network; the nearest is named.
    """
    return _known(name).units


def input_shape(name: str, size: int = 224, channels: int = 3, depth: int = 16) -> tuple[int, ...]:
    """The shape of one example of a network: (H, W, C), or (D, H, W, C) for volumes.

    Args:
        name: a registered network.
        size: edge of a slice.
        channels: channels of the images.
        depth: number of slices of a volume.
    """
    return (*((depth,) if _known(name).dimensions == 3 else ()), size, size, channels)


def stages(name: str) -> tuple[Unit, ...]:
    """The coarse cuts: the last unit of every stage, the stem counted with the first stage."""
    last = {unit.stage: unit for unit in units(name)}
    return tuple(unit for stage, unit in last.items() if stage != "stem")


def unit_of(name: str, path: str | Sequence[str]) -> str:
    """The unit that a parameter belongs to, or "head".

    Args:
        name: a registered network.
        path: "stage3/block2/conv1/kernel", or its parts.

    Raises:
        UserError: the network has no such parameter.
    """
    parts = path.split("/") if isinstance(path, str) else list(path)
    if parts[0] == "head":
        return "head"
    known = _known(name).paths
    for length in range(1, len(parts)):
        prefix = "/".join(parts[:length])
        if prefix in known:
            return known[prefix]
    raise UserError(f"parameter {'/'.join(parts)!r} belongs to no unit of {name!r}")


def network_of(params: Mapping[str, Any]) -> str:
    """A registered network whose units, in order, fit a parameter tree (whole or cut).

    Two networks may fit a cut tree (ResNet-50 and -101 share their first units): either is right,
    since the units present are then the same. One that the tree fills to the top comes first.

    Raises:
        UserError: none fits.
    """

    def paths(tree: Mapping[str, Any], prefix: str) -> list[str]:
        collected = []
        for key, value in tree.items():
            path = f"{prefix}{key}"
            collected += paths(value, path + "/") if isinstance(value, Mapping) else [path]
        return collected

    leaves = [path for path in paths(params, "") if not path.startswith("head/")]
    fits = []
    for name in names():
        try:
            present = {unit_of(name, path) for path in leaves}
        except UserError:
            continue
        last = max((unit.index for unit in units(name) if unit.name in present), default=0)
        with_parameters = {unit for path, unit in _known(name).paths.items() if _has_parameters(path)}
        if all(unit.name in present or unit.name not in with_parameters for unit in units(name)[:last]):
            if with_parameters <= present:
                return name
            fits.append(name)
    if fits:
        return fits[0]
    raise UserError("the parameters fit no registered network")


def _has_parameters(path: str) -> bool:
    last = path.split("/")[-1]
    return not last.startswith(("pool", "relu"))


def position(name: str, cut: int | str) -> int:
    """The 1-based index of a unit given by name or index.

    Raises:
        UserError: no such unit.
    """
    known = units(name)
    if isinstance(cut, str) and not cut.isdigit():
        by_name = {unit.name: unit.index for unit in known}
        if cut not in by_name:
            raise UserError(f"{name!r} has no unit {cut!r}{nearest(cut, tuple(by_name))}")
        return by_name[cut]
    if not 1 <= int(cut) <= len(known):
        raise UserError(f"cut={cut}: {name!r} has units 1 to {len(known)}")
    return int(cut)


def create(
    name: str,
    num_classes: int,
    *,
    cut: int | str | None = None,
    slim_from: int | None = None,
    slim: int = 2,
    head: str | None = None,
    dtype: Any = jnp.float32,
) -> Network:
    """Creates a network.

    Args:
        name: a registered name, one of `names()`.
        num_classes: outputs of the head; 0 gives pooled features (N, C).
        cut: the last unit kept, by name or 1-based index; the head sits on it.
        slim_from: 1-based block from which widths are divided by `slim` (TransFusion): residual
            block (ResNet), dense block (DenseNet), MBConv (EfficientNet), else convolution.
        slim: the divisor.
        head: None = the architecture's own when uncut and "gap" when cut; "gap", "flatten" (AlexNet's
            early cuts are pooled down to about 9,216 values first), "mlp".
        dtype: compute type; parameters are always float32.

    Raises:
        UserError: an unknown name, unit or head, or a family that cannot be made slim.
    """
    if head is not None and head not in HEADS:
        raise UserError(f"head={head!r}{nearest(head, HEADS)}")
    if num_classes < 0:
        raise UserError(f"num_classes={num_classes} must be 0 (features) or more")
    plan = _plan(name, dtype, slim_from, slim)
    kept = plan.units if cut is None else plan.units[: position(name, cut)]
    whole = len(kept) == len(plan.units)
    if (head is not None or num_classes == 0) and (cut is None or whole):
        replaced = {CLASSIFIER} if head is None else {CLASSIFIER, OWN_POOL}
        kept = tuple(spec for spec in kept if spec.stage not in replaced)
    dropout = plan.dropout if whole and head is None else 0.0
    return Network(kept, Head(head or "gap", num_classes, dropout, plan.flat_size), dtype, plan.dimensions)
