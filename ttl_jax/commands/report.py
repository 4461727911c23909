"""Prints the table of finished runs and writes one report over them."""

from __future__ import annotations

from pathlib import Path

from ttl_jax.commands.arguments import Parser
from ttl_jax.errors import UserError
from ttl_jax.system.json_object import readable_folder

SUMMARY = "table and HTML report of finished runs"

HELP = """usage: ttl-jax report WORKDIR [WORKDIR ...] [--out=FILE]

Prints the table of runs and writes one HTML report over all of them. The work
folder of a comparison or of a search gives its report.

  --out=FILE               the page; report.html where none is named

examples:
  ttl-jax report runs/skin-* --out=runs/skin.html
  ttl-jax report runs/compare --out=runs/compare.html
"""


def run(arguments: list[str]) -> None:
    """Prints the table of finished runs and writes one report over them."""
    from ttl_jax.system import remote

    parser = Parser("report")
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--out", default="report.html")
    given = parser.parse_args(arguments)
    folders = [Path(remote.local(word, without=("checkpoints",))) for word in given.folders]
    with readable_folder(" ".join(given.folders)):
        _write(folders, given.out)
    print(f"report: {given.out}")


def _write(folders: list[Path], out: str) -> None:
    """Prints the table of what lies in the folders, and writes the page."""
    from ttl_jax import report
    from ttl_jax.system import remote

    comparison, search, title = None, None, "Comparison of runs"
    if len(folders) == 1 and (folders[0] / "compare.json").exists():
        title = "Comparison of strategies"
        comparison, folders = report.read_comparison(folders[0])
    elif len(folders) == 1 and (folders[0] / "search.json").exists():
        title = f"Search in {folders[0].name}"
        search, folders = report.read_search(folders[0])
    for folder in folders:
        if not (folder / "config.json").exists():
            raise UserError(f"{folder} is not a work folder: it has no config.json")
    report.print_table(report.rows(folders))
    with remote.output(out) as place:
        report.write(folders, place, title, comparison=comparison, search=search)
