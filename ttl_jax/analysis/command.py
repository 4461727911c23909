"""`python -m ttl_jax analyze ...`: what is said on the command line, and what is answered."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ttl_jax import models
from ttl_jax.analysis.compare import MEASURES, compare
from ttl_jax.analysis.cost import BATCHES, cost, row
from ttl_jax.analysis.ranking import ranking
from ttl_jax.analysis.table import table
from ttl_jax.errors import UserError, nearest

KINDS = ("cost", "table", "ranking", *MEASURES)


class Answer(NamedTuple):
    """A table, and a line below it."""

    rows: list[dict[str, Any]]
    note: str


class _Parser(argparse.ArgumentParser):
    """Faults become one sentence and exit status 2, as everywhere in the program."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `python -m ttl_jax analyze --help`")


def analyze(arguments: Sequence[str]) -> Answer:
    """Answers one analyze command.

    Raises:
        UserError: arguments that are not understood, or folders that hold no run.
    """
    kind = arguments[0] if arguments else ""
    if kind not in KINDS:
        raise UserError(f"analyze takes one of its kinds first{nearest(kind, KINDS)}")
    parser = _Parser(prog=f"analyze {kind}", add_help=False, allow_abbrev=False)
    parser.add_argument("--json", action="store_true")
    if kind == "cost":
        return _cost(parser, arguments[1:])
    if kind == "table":
        parser.add_argument("folders", nargs="+", type=Path)
        parser.add_argument("--latency", action="store_true")
        given = parser.parse_args(arguments[1:])
        found = table(given.folders, latency=given.latency)
        return Answer(list(found), "test split; ± is the sample standard deviation over seeds")
    if kind == "ranking":
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


def _cost(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Answer:
    parser.add_argument("--model", required=True)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--classes", type=int, default=2)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cut")
    which.add_argument("--strategy")
    which.add_argument("--cuts", action="store_true")
    parser.add_argument("--latency", action="store_true")
    given = parser.parse_args(arguments)
    shape = (given.image_size, given.image_size, given.channels)
    batches = BATCHES if given.latency else ()
    cuts = [unit.index for unit in models.units(given.model)] if given.cuts else [given.cut]
    rows, device = [], ""
    for cut in cuts:
        found = cost(
            given.model, shape, cut=cut, strategy=given.strategy, num_classes=given.classes, batches=batches
        )
        name = given.strategy or (given.model if cut is None else f"{given.model}, unit {cut}")
        rows.append(row(name, found))
        device = found.device
    said = f"; latency on {device}, the median after warm-up" if device else ""
    return Answer(rows, f"one {given.image_size} x {given.image_size} image, {given.classes} classes{said}")
