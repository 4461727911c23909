"""The anatomy of a network, as strategies see it: its units, its stages, and which leaf lies where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flax.traverse_util import unflatten_dict

from ttl_jax import models

SOURCE_HEAD = "source_head"  # parameters of the pretrained head, where it is kept beside "head"


@dataclass(frozen=True)
class Leaf:
    """One parameter tensor, placed in its network.

    Attributes:
        path: names joined by "/", as `stage3/block2/conv1/kernel`.
        unit: 1-based position of its unit among the units present; one more than the last for the head.
        stage: 1-based position of its stage; one more than the last for the head.
        kind: "kernel", "bias" or "norm" (scale and bias of a normalisation).
    """

    path: str
    unit: int
    stage: int
    kind: str


@dataclass(frozen=True)
class Anatomy:
    """The units of one (possibly cut) network, bottom to top, and the leaves in them.

    Attributes:
        units: names of the units.
        stages: names of the stages.
        leaves: every parameter; a pretrained head that is kept beside the new one ("source_head",
            co-tuning) counts as the head.
        stage_tops: the last unit of every stage.
    """

    units: tuple[str, ...]
    stages: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    stage_tops: tuple[str, ...]

    @property
    def head(self) -> int:
        """The position of the head: one above the last unit."""
        return len(self.units) + 1

    def depth(self, leaf: Leaf) -> int:
        """Return the number of units from a leaf up to the head: 0 for the head, 1 for the last unit."""
        return self.head - leaf.unit


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns nested parameters into {"stage1/block1/conv1/kernel": leaf}, keys sorted."""
    flat: dict[str, Any] = {}
    for name in sorted(tree):
        value, path = tree[name], f"{prefix}{name}"
        flat.update(flatten(value, path + "/") if isinstance(value, Mapping) else {path: value})
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = unflatten_dict(dict(flat), sep="/")
    return tree


def variables_of(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Builds {"params", "batch_stats"} from the leaves of both; without norms the second is empty."""
    tree = unflatten(leaves)
    return {"params": tree["params"], "batch_stats": tree.get("batch_stats", {})}


def kind_of(path: str) -> str:
    """Says what a parameter is from its path: "norm", "bias" or "kernel"."""
    *parents, last = path.split("/")
    if parents and parents[-1].startswith("norm"):
        return "norm"
    return "bias" if last == "bias" else "kernel"


def anatomy_of(params: Mapping[str, Any], model: str | None = None) -> Anatomy:
    """Places every parameter of a tree in its unit and stage.

    Args:
        params: a parameter tree (arrays or shapes), of a whole or a cut network.
        model: the network's registered name; found from the tree's own paths when not given.
    """
    name = model or models.network_of(params)
    unit_of = {
        path: "head" if path.startswith(f"{SOURCE_HEAD}/") else models.unit_of(name, path)
        for path in flatten(params)
    }
    present = set(unit_of.values())
    # Units without parameters (a pool) belong to the network as long as something above them does.
    known = models.units(name)
    last = max(unit.index for unit in known if unit.name in present)
    units = [unit for unit in known if unit.index <= last]
    stages = tuple(dict.fromkeys(unit.stage for unit in units))
    place = {unit.name: (unit.index, stages.index(unit.stage) + 1) for unit in units}
    place["head"] = (len(units) + 1, len(stages) + 1)

    def leaves() -> Iterator[Leaf]:
        for path, unit in unit_of.items():
            position, stage = place[unit]
            yield Leaf(path, position, stage, kind_of(path))

    tops = tuple([unit.name for unit in units if unit.stage == stage][-1] for stage in stages)
    return Anatomy(tuple(unit.name for unit in units), stages, tuple(leaves()), tops)
