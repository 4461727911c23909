"""The networks, their units and sizes."""

from __future__ import annotations

from typing import Any

from ttl_jax.commands.printing import list_rows

SUMMARY = "the networks, their units and sizes"

HELP = """usage: python -m ttl_jax models [--json]

example:
  python -m ttl_jax models --json
"""


def run(arguments: list[str]) -> None:
    """Prints the list, or writes it as JSON."""
    list_rows(_models(), arguments)


def _models() -> list[dict[str, Any]]:
    import jax

    from ttl_jax import models

    rows = []
    for name in models.names():
        network = models.create(name, 1000)
        image = jax.ShapeDtypeStruct((1, *models.input_shape(name)), "float32")
        shapes = jax.eval_shape(network.init, jax.random.key(0), image)
        sizes = [leaf.size for leaf in jax.tree.leaves(shapes["params"])]
        rows.append(
            {
                "model": name,
                "units": len(models.units(name)),
                "stages end at": ", ".join(str(unit.index) for unit in models.stages(name)),
                "parameters (1000 classes)": int(sum(sizes)),
            }
        )
    return rows
