"""Every network by its name, its units and stages, and where a parameter lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax.numpy as jnp

from ttl_jax.errors import UserError, nearest
from ttl_jax.models import alexnet, bit, cbr, clip, densenet, efficientnet, penet, resnet, vgg, volume
from ttl_jax.models.network import HEADS, Head, Network
from ttl_jax.models.unit import Plan, Unit

CLASSIFIER = "classifier"  # stage of fully connected layers that a pooled head replaces
OWN_POOL = "own_pool"  # stage of a pool with parameters (CLIP's attention), which another head replaces

# Families whose upper part can be made slim take (name, dtype, slim_from, slim), others (name, dtype).
SLIMMABLE: dict[str, Callable[..., Plan]] = {
    **dict.fromkeys(resnet.DEPTHS, resnet.plan),
    **dict.fromkeys(densenet.DEPTHS, densenet.plan),
    **dict.fromkeys(("vgg16", "vgg16_bn", "vgg19", "vgg19_bn"), vgg.plan),
    **dict.fromkeys(efficientnet.FLAVOURS, efficientnet.plan),
    "alexnet": alexnet.plan,
    **dict.fromkeys(cbr.FLAVOURS, cbr.plan),
    **dict.fromkeys(volume.NAMES, volume.plan),
}
PLANS: dict[str, Callable[..., Plan]] = {
    **SLIMMABLE,
    **dict.fromkeys(bit.NETWORKS, bit.plan),
    "clip_resnet50": clip.plan,
    "penet": penet.plan,
}


def names() -> tuple[str, ...]:
    """The registered networks."""
    return tuple(PLANS)


def _plan(name: str, dtype: Any, slim_from: int | None, slim: int) -> Plan:
    if name not in PLANS:
        raise UserError(f"there is no model {name!r}{nearest(name, names())}")
    if name in SLIMMABLE:
        plan = PLANS[name](name, dtype, slim_from, slim)
        if slim_from is not None and plan == PLANS[name](name, dtype, None, slim):
            raise UserError(f"slim_from={slim_from}, slim={slim} leaves {name} as it is: count blocks from 1")
        return plan
    if slim_from is not None:
        raise UserError(f"slim_from is for {', '.join(SLIMMABLE)}, not for {name!r}")
    return PLANS[name](name, dtype)


@cache
def units(name: str) -> tuple[Unit, ...]:
    """The units of a network, bottom to top.

    Raises:
        UserError: no such network; the nearest is named.
    """
    specs = _plan(name, jnp.float32, None, 2).units
    return tuple(Unit(spec.name, spec.stage, number) for number, spec in enumerate(specs, start=1))


@cache
def input_shape(name: str, size: int = 224, channels: int = 3, depth: int = 16) -> tuple[int, ...]:
    """The shape of one example of a network: (H, W, C), or (D, H, W, C) for volumes.

    Args:
        name: a registered network.
        size: edge of a slice.
        channels: of the images.
        depth: slices of a volume.
    """
    dimensions = _plan(name, jnp.float32, None, 2).dimensions
    return (*((depth,) if dimensions == 3 else ()), size, size, channels)


@cache
def stages(name: str) -> tuple[Unit, ...]:
    """The coarse cuts: the last unit of every stage, the stem counted with the first stage."""
    last = {unit.stage: unit for unit in units(name)}
    return tuple(unit for stage, unit in last.items() if stage != "stem")


@cache
def _paths(name: str) -> dict[str, str]:
    specs = _plan(name, jnp.float32, None, 2).units
    return {path: spec.name for spec in specs for path, _ in spec.parts}


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
    known = _paths(name)
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
        found = []
        for key, value in tree.items():
            path = f"{prefix}{key}"
            found += paths(value, path + "/") if isinstance(value, Mapping) else [path]
        return found

    leaves = [path for path in paths(params, "") if not path.startswith("head/")]
    fits = []
    for name in names():
        try:
            present = {unit_of(name, path) for path in leaves}
        except UserError:
            continue
        last = max((unit.index for unit in units(name) if unit.name in present), default=0)
        with_parameters = {_paths(name)[path] for path in _paths(name) if _has_parameters(name, path)}
        if all(unit.name in present or unit.name not in with_parameters for unit in units(name)[:last]):
            if with_parameters <= present:
                return name
            fits.append(name)
    if fits:
        return fits[0]
    raise UserError("the parameters fit no registered network")


@cache
def _has_parameters(name: str, path: str) -> bool:
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
        name: see `names`.
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
