"""Lists what stands in two splits of a data set; exit status 2 where that is anything."""

from __future__ import annotations

from ttl_jax.commands.arguments import config_and_workdir
from ttl_jax.config import RunConfig, data_config
from ttl_jax.errors import UserError

SUMMARY = "what stands in two splits of a data set"

HELP = """usage: python -m ttl_jax leaks --config=FILE[:name=value,...] [--config.data.FIELD=VALUE ...]

Lists groups and copies of an image that stand in two splits, and same images under two labels:
same group, same file, same pixels, near-duplicate (saved again, scaled, brightened, mirrored, turned by
quarters: DCT hash, then correlation of thumbnails), altered copy (shifted or cropped by up to a tenth, turned
by a few degrees, marked, padded: spectra, then alignment and correlation of the detail; docs/leaks.md).
--config.data.duplicates=near looks for no altered copies.
Exit status 2 where something is found, unless data.allow_leaks=True.

examples:
  python -m ttl_jax leaks --config=train:dataset=brain_tumor_mri --config.data.resplit=False
  python -m ttl_jax leaks --config=train --config.data.name=folder --config.data.path=/data/xrays
"""


def run(arguments: list[str]) -> None:
    """Lists what stands in two splits of a data set; exit status 2 where that is anything."""
    config, _ = config_and_workdir(arguments, RunConfig, needs_workdir=False)
    from ttl_jax.data.load import check
    from ttl_jax.data.sources.registry import read_listing
    from ttl_jax.data.splits.examine import examine

    settings = data_config(config.data)
    check(settings)
    if settings.name.startswith("phantom/"):
        raise UserError(
            f"data.name={settings.name} is generated patient by patient: there are no files to check"
        )
    examined = examine(read_listing(settings), settings)
    findings = [*examined.leaks, *examined.conflicts]
    for finding in findings:
        print(finding.line())
    print(examined.overview(), flush=True)
    if findings and not settings.allow_leaks:
        remedies = ["data.resplit=True splits anew with copies kept together"] if examined.leaks else []
        remedies += ["give each image one label or leave it out"] if examined.conflicts else []
        raise UserError(
            f"{examined.summary()}; {', '.join(remedies)}, or data.allow_leaks=True accepts what is listed"
        )
