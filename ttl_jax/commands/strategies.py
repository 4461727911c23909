"""Lists the strategies, or shows the plan of one on a network, with its picture."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttl_jax.commands.arguments import Parser
from ttl_jax.commands.printing import print_rows
from ttl_jax.errors import UserError

FORMATS = (".png", ".svg", ".pdf")

SUMMARY = "the strategies, or the plan of one"

HELP = """usage: ttl-jax strategies [STRATEGY] [--model=NAME] [--out=FILE ...] [--json]

Lists the strategies; with STRATEGY, its plan on a network: phases, labels,
trainable parameters, operations of a step (XLA's cost analysis), bytes of the
optimizer, and its picture.

  --model=resnet50         the network
  --classes=2              classes of the head
  --image_size=224         pixels a side
  --batch=32               images a step
  --out=FILE               a picture: .png, .svg or .pdf; may be given again
  --json                   for programs

examples:
  ttl-jax strategies
  ttl-jax strategies lp_ft --model=efficientnet_lite0 --out=plan.png
  ttl-jax strategies "truncated(12)+lp_ft+l2_sp+discriminative"
"""


def run(arguments: list[str]) -> None:
    """Lists the strategies, or shows the plan of one on a network, with its picture."""
    if not [word for word in arguments if word != "--json"]:
        print_rows(_strategies(), "--json" in arguments)
        return
    show(arguments)


def show(arguments: Sequence[str]) -> None:
    """Prints a strategy's plan on a network, and writes its picture where asked to.

    Raises:
        UserError: arguments, a strategy or a network that are not understood.
    """
    from ttl_jax.analysis.strategy_plan import plan
    from ttl_jax.commands.printing import print_plan

    parser = Parser("strategies")
    parser.add_argument("strategy")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path, action="append", default=[])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(list(arguments))
    for path in given.out:
        if path.suffix not in FORMATS:
            raise UserError(f"--out={path}: the picture is written as one of {', '.join(FORMATS)}")
    planned = plan(given.strategy, given.model, given.classes, given.image_size, given.batch)
    if given.json:
        print(json.dumps(dataclasses.asdict(planned), indent=1))
    else:
        print_plan(planned)
    if given.out:
        from ttl_jax.analysis.strategy_plan_picture import draw

        draw(planned, tuple(given.out))
        print(*(f"picture: {path}" for path in given.out), sep="\n", file=sys.stderr)


def _strategies() -> list[dict[str, Any]]:
    import inspect

    from ttl_jax import registry, strategies

    return [
        {
            "strategy": f"{key}({', '.join(map(_option, inspect.signature(entry).parameters.values()))})",
            "what it does": inspect.cleandoc(entry.__doc__ or "").split("\n\n")[0].replace("\n", " "),
        }
        for key, entry in ((key, registry.get("strategy", key)) for key in strategies.names())
    ]


def _option(parameter: Any) -> str:
    """An option as a user writes it: name, or name=default."""
    needed = parameter.default is parameter.empty
    return parameter.name if needed else f"{parameter.name}={parameter.default!r}"
