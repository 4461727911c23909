"""List the pretrained weights and their sources."""

from __future__ import annotations

from ttl_jax.commands.arguments import Parser
from ttl_jax.commands.printing import print_rows

SUMMARY = "where pretrained weights come from"

HELP = """usage: ttl-jax weights [NAME] [--json]

Lists the pretrained weights that are known by name, of all networks or of one:
where they come from, their checksum, and whether they are on this machine.
Files of your own need no entry: --config.model.weights=/data/resnet50.pth.

  --json                   for programs

examples:
  ttl-jax weights
  ttl-jax weights resnet50 --json
"""


def run(arguments: list[str]) -> None:
    """Prints the list, or writes it as JSON."""
    parser = Parser("weights")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    from ttl_jax import models, weights

    if given.name is not None:
        models.units(given.name)  # refuses what is no network
    rows = [row for row in weights.listing() if given.name in (None, row["model"])]
    if given.json:
        print_rows(rows, json_wanted=True)
        return
    shown = ("model", "weights", "from", "here")
    print_rows([{key: row[key].rpartition("/")[2] for key in shown} for row in rows])
    hosts = dict.fromkeys(row["from"].rpartition("/")[0] for row in rows if "://" in row["from"])
    print(*(f"what is not here is downloaded on first use, from {host}/" for host in hosts), sep="\n")
