"""Costs, similarities, and the table of finished runs and searches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ttl_jax.commands.arguments import Parser
from ttl_jax.commands.printing import print_rows
from ttl_jax.errors import UserError, nearest
from ttl_jax.system.compilation_cache import set_up_jax

SUMMARY = "what networks cost and how alike they are"

HELP = """usage: ttl-jax analyze cost --model=NAME [...]
       ttl-jax analyze table DIR [DIR ...] [--latency]
       ttl-jax analyze ranking PREVIEW SEARCH
       ttl-jax analyze svcca|pwcca|cka RUN [--against=RUN] [--examples=256]

cost: parameters, multiply-adds, activations and file size of a network.
table: method x metrics x costs, of runs and searches. ranking: how well a
preview's measures ranked the units that a search trained. svcca, pwcca, cka:
similarity of features, unit by unit, beside a random baseline.

  --model=NAME             cost: the network
  --image_size=224         cost: pixels a side
  --channels=3             cost: channels of the images
  --classes=2              cost: classes of the head
  --cut=UNIT               cost: cut after this unit
  --cuts                   cost: cut after each unit, a line each
  --strategy=TEXT          cost: after this strategy's surgery
  --latency                cost, table: measured milliseconds too
  --against=pretrained     similarity: another run, or the pretrained weights
  --examples=256           similarity: validation images to look at
  --json                   for programs

examples:
  ttl-jax analyze cost --model=resnet50 --cuts
  ttl-jax analyze table runs/skin-* runs/search --latency
  ttl-jax analyze svcca runs/skin-full
"""


class Answer(NamedTuple):
    """A table, and a line below it."""

    rows: list[dict[str, Any]]
    note: str


def run(arguments: list[str]) -> None:
    """Costs, similarities, and the table of finished runs and searches."""
    set_up_jax()
    from ttl_jax.system import remote

    answer = analyze([word if word.startswith("-") else remote.local(word) for word in arguments])
    print_rows(answer.rows, "--json" in arguments)
    if "--json" not in arguments:
        print(answer.note)


def analyze(arguments: Sequence[str]) -> Answer:
    """Answers one analyze command.

    Raises:
        UserError: arguments that are not understood, or folders that hold no run.
    """
    from ttl_jax.analysis.feature_similarity import MEASURES, compare

    kinds = ("cost", "table", "ranking", *MEASURES)
    kind = arguments[0] if arguments else ""
    if kind not in kinds:
        raise UserError(f"analyze takes one of its kinds first{nearest(kind, kinds)}")
    parser = Parser(f"analyze {kind}")
    parser.add_argument("--json", action="store_true")
    if kind == "cost":
        return _cost(parser, arguments[1:])
    if kind == "table":
        from ttl_jax.analysis.methods_table import table

        parser.add_argument("folders", nargs="+", type=Path)
        parser.add_argument("--latency", action="store_true")
        given = parser.parse_args(arguments[1:])
        methods = table(given.folders, latency=given.latency)
        return Answer(
            list(methods),
            "test split; ± is the sample standard deviation over seeds, in brackets the 95 % interval",
        )
    if kind == "ranking":
        from ttl_jax.analysis.ranking import ranking

        parser.add_argument("preview", type=Path)
        parser.add_argument("search", type=Path)
        given = parser.parse_args(arguments[1:])
        said = "tau-b between what the preview said of the units and their validation scores"
        return Answer(ranking(given.preview, given.search), said)
    parser.add_argument("run", type=Path)
    parser.add_argument("--against", default="pretrained")
    parser.add_argument("--examples", type=int, default=256)
    given = parser.parse_args(arguments[1:])
    if given.examples < 2:
        raise UserError(f"--examples={given.examples} must be 2 or more")
    rows = compare(kind, given.run, given.against, given.examples)
    return Answer(rows, f"{given.run} against {given.against}, validation images; 1 is the same")


def _cost(parser: Parser, arguments: Sequence[str]) -> Answer:
    from ttl_jax import models
    from ttl_jax.analysis.cost import BATCHES, cost, row

    parser.add_argument("--model", required=True)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--classes", type=int, default=2)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cut")
    which.add_argument("--strategy")
    which.add_argument("--cuts", action="store_true")
    parser.add_argument("--latency", action="store_true")
    given = parser.parse_args(arguments)
    shape = models.input_shape(given.model, given.image_size, given.channels)
    batches = BATCHES if given.latency else ()
    cuts = [unit.index for unit in models.units(given.model)] if given.cuts else [given.cut]
    rows, device = [], ""
    for cut in cuts:
        measured = cost(
            given.model, shape, cut=cut, strategy=given.strategy, num_classes=given.classes, batches=batches
        )
        name = given.strategy or (given.model if cut is None else f"{given.model}, unit {cut}")
        rows.append(row(name, measured))
        device = measured.device
    said = f"; latency on {device}, the median after warm-up" if device else ""
    return Answer(rows, f"one example of {' x '.join(map(str, shape))}, {given.classes} classes{said}")
