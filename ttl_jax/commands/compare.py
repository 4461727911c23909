"""Runs the cells of a comparison that are not done yet, writes compare.json and the report."""

from __future__ import annotations

from ttl_jax.commands.arguments import config_and_workdir, fields_help
from ttl_jax.commands.printing import more_seeds
from ttl_jax.system import terminal

SUMMARY = "strategies x models x data sets x seeds"

HELP = """usage: ttl-jax compare --config=NAME --workdir=DIR [--config.FIELD=VALUE ...]

Strategies x models x data sets x seeds, the learning rate of each setting
chosen on validation. Stopped at any moment, the same command goes on and
repeats nothing; SIGTERM and Ctrl-C save the cells under way and end with status
75. More strategies, seeds or rates may be added later. How cells are made
comparable: docs/comparing.md.

  --config=NAME            compare, davila, a study, or a path
  --workdir=DIR            folder that the comparison writes to
  --config.FIELD=VALUE     any field below

examples:
  ttl-jax compare --config=compare --workdir=runs/compare \\
      --config.compare.strategies="('full', 'linear_probe', 'lp_ft')" \\
      --config.compare.seeds="(0, 1, 2)" --config.total_epochs=5
  ttl-jax compare --config=davila:data_dir=/data --workdir=runs/davila
"""


def run(arguments: list[str]) -> None:
    """Runs the cells of a comparison that are not done yet, writes compare.json and the report."""
    from ttl_jax.compare.config import CompareConfig

    config, workdir = config_and_workdir(arguments, CompareConfig)
    from ttl_jax.compare import compare
    from ttl_jax.engines import one_machine
    from ttl_jax.system import preemption, remote

    if remote.is_remote(workdir):
        one_machine(config.compare.engine, "compare.engine")
    with (
        remote.workfolder(workdir) as (folder, push),
        preemption.watch(config.preemption_notice) as notice,
    ):
        comparison = compare(config, folder, notice, push)
    terminal.say(more_seeds(comparison))


def fields(arguments: list[str]) -> str:
    """The config fields and their defaults, for the end of the help."""
    from ttl_jax.compare.config import CompareConfig

    return fields_help(arguments, CompareConfig)
