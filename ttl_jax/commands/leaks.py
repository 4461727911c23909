"""Lists what stands in two splits of a data set; exit status 2 where that is anything."""

from __future__ import annotations

import dataclasses
import json

from ttl_jax.commands.arguments import config_and_workdir
from ttl_jax.config import RunConfig, data_config
from ttl_jax.errors import UserError

SUMMARY = "what stands in two splits of a data set"

HELP = """usage: ttl-jax leaks --config=NAME [--config.data.FIELD=VALUE ...] [--json]

Lists groups and copies of an image that stand in two splits, and same images
under two labels: same group, same file, same pixels, near-duplicate (saved
again, scaled, brightened, mirrored, turned by quarters), altered copy (shifted
or cropped by up to a tenth, turned by a few degrees, marked, padded). Exit
status 2 where something is found. docs/leaks.md: what is found and what not.

  --config=NAME            a preset or the path of a config file
  --config.data.FIELD=VALUE
                           the data, as for `train`
  --config.data.duplicates=near
                           looks for no altered copies
  --config.data.allow_leaks=True
                           lists, and ends with status 0
  --json                   for programs

examples:
  ttl-jax leaks --config=train:dataset=brain_tumor_mri \\
      --config.data.resplit=False
  ttl-jax leaks --config=train --config.data.path=/data/xrays
"""


def run(arguments: list[str]) -> None:
    """Lists what stands in two splits of a data set; exit status 2 where that is anything."""
    config, _ = config_and_workdir(arguments, RunConfig, needs_workdir=False, switches=("--json",))
    from ttl_jax.config.data import generated
    from ttl_jax.data.load import check
    from ttl_jax.data.sources.registry import read_listing
    from ttl_jax.data.splits.examine import examine

    settings = data_config(config.data)
    check(settings)
    if generated(settings.name):
        raise UserError(
            f"data.name={settings.name} is generated patient by patient: there are no files to check"
        )
    examined = examine(read_listing(settings), settings)
    findings = [*examined.leaks, *examined.conflicts]
    if "--json" in arguments:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
    else:
        said = (*examined.listing.notes, f"split: {examined.splits_from}", examined.overview())
        print(*(finding.line() for finding in findings), *said, sep="\n", flush=True)
    if findings and not settings.allow_leaks:
        remedies = ["data.resplit=True splits anew with copies kept together"] if examined.leaks else []
        remedies += ["give each image one label or leave it out"] if examined.conflicts else []
        raise UserError(
            f"{examined.summary()}; {', '.join(remedies)}, or data.allow_leaks=True accepts what is listed"
        )
