"""Searches the unit to cut at, freeze up to or slim from."""

from __future__ import annotations

from ttl_jax.commands.arguments import config_and_workdir, fields_help
from ttl_jax.commands.printing import compare_with, print_rows
from ttl_jax.system import host, terminal
from ttl_jax.system.compilation_cache import set_up_jax

SUMMARY = "find the best unit to cut, slim or freeze at"

HELP = """usage: ttl-jax search --config=NAME[:name=value,...] --workdir=DIR [--preview]
                      [--config.FIELD=VALUE ...]

Searches the unit at which a network is best cut (kind=ttl), made slim (tf) or
frozen (lwft), for a third of what training every unit costs (docs/search.md).
Selection is on validation; the test split is looked at once, for the winner.
The same command again trains nothing. kind=all searches all three, trains the
winners with search.seeds seeds and prints the TTL paper's table (--config=ttl).

  --config=NAME            search, ttl, or the path of a config file
  --workdir=DIR            folder that the search writes to
  --preview                ranks the units from one forward pass, untrained
  --config.FIELD=VALUE     any field below

examples:
  ttl-jax search --config=search:dataset=phantom/mri,kind=ttl --workdir=runs/cut
  ttl-jax search --config=search:dataset=ham10000,method=two_stage \\
      --workdir=runs/skin --config.search.workers=2 --config.search.weight=0.02
  ttl-jax search --config=search:dataset=ham10000 --workdir=runs/look --preview
  ttl-jax search --config=ttl:dataset=ham10000 --workdir=runs/ttl
"""


def run(arguments: list[str]) -> None:
    """Searches the unit to cut at, freeze up to or slim from; `--preview` ranks units untrained."""
    preview = "--preview" in arguments
    from ttl_jax.search.config import SearchConfig

    config, workdir = config_and_workdir(arguments, SearchConfig, switches=("--preview",))
    host.set_deterministic(config.deterministic)
    set_up_jax()
    from ttl_jax.engines import one_machine
    from ttl_jax.system import preemption, remote

    if remote.is_remote(workdir):
        one_machine(config.search.engine, "search.engine")
    with (
        remote.workfolder(workdir) as (folder, push),
        preemption.watch(config.preemption_notice) as notice,
    ):
        if preview:
            from ttl_jax.search.preview import preview as look

            record = look(config, folder)
            print_rows(record["table"])
            print(record["proposal"])
            print("next, the search itself: the same command without --preview")
        elif config.search.kind == "all":
            from ttl_jax.search import paper

            comparison = paper.paper(config, folder, notice=notice, committed=push)
            print_rows(paper.table(comparison))
            print(paper.sentence(comparison))
            print(f"table: {workdir.rstrip('/')}/paper.md")
        else:
            from ttl_jax.report.search_text import rows, sentence
            from ttl_jax.search.search import search

            record = search(config, folder, notice=notice, committed=push)
            print_rows(rows(record))
            print(sentence(record))
            for warning in record["warnings"]:
                print(f"WARNING the winner: {warning['message']}. {warning['remedy']}.")
            if config.report:
                print(f"report: {workdir.rstrip('/')}/report.html")
            against = (record["strategy"], "full", "linear_probe")
            terminal.say(compare_with(arguments, workdir, against))


def fields(arguments: list[str]) -> str:
    """The config fields and their defaults, for the end of the help."""
    from ttl_jax.search.config import SearchConfig

    return fields_help(arguments, SearchConfig)
