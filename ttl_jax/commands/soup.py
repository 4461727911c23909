"""Averages the weights of finished runs, scores the mean, prints the table."""

from __future__ import annotations

from pathlib import Path

from ttl_jax.commands.arguments import Parser
from ttl_jax.system.compilation_cache import set_up_jax

SUMMARY = "average the weights of finished runs"

HELP = """usage: ttl-jax soup RUN RUN [RUN ...] --workdir=DIR [--kind=greedy]

Averages the weights of finished runs (seeds, rates, strategies of one network
on one data set) and scores the mean.

  --workdir=DIR            folder for the mean and its scores
  --kind=greedy            from the best run down, each that does not lower the
                           validation figure; uniform: all of them

examples:
  ttl-jax soup runs/skin-seed0 runs/skin-seed1 --workdir=runs/skin-soup
  ttl-jax soup runs/skin-seed* --workdir=runs/skin-mean --kind=uniform
"""


def run(arguments: list[str]) -> None:
    """Averages the weights of finished runs, scores the mean, prints the table."""
    parser = Parser("soup")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--kind", default="greedy")
    given = parser.parse_args(arguments)
    set_up_jax()
    from ttl_jax import report
    from ttl_jax.analysis.soup_of_runs import soup
    from ttl_jax.system import remote

    runs = [Path(remote.local(word)) for word in given.runs]
    with remote.workfolder(given.workdir) as (folder, _):
        averaged = soup(runs, folder, given.kind)["soup"]
    report.print_table(report.rows([*runs, folder]))
    print(f"kept: {', '.join(averaged['kept'])}")
