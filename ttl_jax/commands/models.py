"""The networks, or the units of one and the weights that fit it."""

from __future__ import annotations

from functools import cache
from typing import Any

from ttl_jax.commands.arguments import Parser
from ttl_jax.commands.printing import print_rows
from ttl_jax.system import terminal

SUMMARY = "the networks, or the units of one"

HELP = """usage: ttl-jax models [NAME] [--image_size=224] [--json]

Lists the networks; with NAME, the units of that network, at which it can be
cut, frozen or slimmed, and the pretrained weights that fit it.

  --image_size=224         pixels a side, for the shapes of the outputs
  --json                   for programs

examples:
  ttl-jax models
  ttl-jax models resnet50
"""


def run(arguments: list[str]) -> None:
    """Prints the list, or one of its entries."""
    parser = Parser("models")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if given.name is None:
        print_rows(_models(), given.json)
        return
    rows = _units(given.name, given.image_size)
    print_rows(rows, given.json)
    if not given.json:
        last, cut = rows[-1], rows[max(0, len(rows) // 2 - 1)]
        terminal.say(
            f"{last['parameters up to it']:,} parameters, and those of the head",
            f"weights that fit: {', '.join(_weights(given.name))}, or none",
            f'cut after {cut["name"]}: --config.strategy="truncated({cut["unit"]})"',
        )


def _models() -> list[dict[str, Any]]:
    from ttl_jax import models

    return [
        {
            "model": name,
            "units": len(models.units(name)),
            "stages end at": ", ".join(str(unit.index) for unit in models.stages(name)),
            "parameters (1000 classes)": sum(_sizes(name).values()),
        }
        for name in models.names()
    ]


def _units(name: str, image_size: int) -> list[dict[str, Any]]:
    """A row a unit: its stage, the shape of its output, the parameters in it and up to it."""
    from functools import partial

    import jax

    from ttl_jax import models

    units, network = models.units(name), models.create(name, 1000)
    image = jax.ShapeDtypeStruct((1, *models.input_shape(name, image_size)), "float32")
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    capture = tuple(unit.name for unit in units)
    _, outputs = jax.eval_shape(partial(network.apply, capture=capture), variables, image)
    sizes, rows, below = _sizes(name), [], 0
    for unit in units:
        size = sizes.get(unit.name, 0)
        below += size
        shape = " x ".join(map(str, outputs[unit.name].shape[1:]))
        row = {"unit": unit.index, "name": unit.name, "stage": unit.stage, "output": shape}
        rows.append(row | {"parameters": size, "parameters up to it": below})
    return rows


@cache
def _sizes(name: str) -> dict[str, int]:
    """The number of parameters of each unit and of the head for 1000 classes."""
    from collections import Counter

    import jax

    from ttl_jax import models

    image = jax.ShapeDtypeStruct((1, *models.input_shape(name)), "float32")
    variables = jax.eval_shape(models.create(name, 1000).init, jax.random.key(0), image)
    sizes: Counter[str] = Counter()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        sizes[models.unit_of(name, [key.key for key in path])] += leaf.size
    return dict(sizes)


def _weights(name: str) -> list[str]:
    """The weights that fit a network: those of the catalogue, and files of one's own."""
    from ttl_jax import weights

    known = [row for row in weights.listing() if row["model"] == name]
    here = {"yes": "here", "no": "downloaded on first use"}
    listed = [f"{row['weights']} ({here[row['here']]})" for row in known]
    return [*listed, "a .pth, .safetensors, .h5 or .npz file of it"]
