"""Writes a folder, table, DICOM or NIfTI source as shards with a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ttl_jax.commands.arguments import field_help, unknown_argument
from ttl_jax.config.data import DataConfig
from ttl_jax.config.fields import leaves
from ttl_jax.errors import UserError

SUMMARY = "write any source as shards with a manifest"

HELP = """usage: ttl-jax prepare SOURCE --out=DIR [--workers=N] [--FIELD=VALUE ...]

Decodes, checks and hashes every image of a source once and writes ArrayRecord
shards and manifest.json (hashes, sizes, labels, groups). The same command again
goes on after a kill, or brings the folder up to date; the same images give the
same bytes. SOURCE is a folder of class folders (images, DICOM or NIfTI), a CSV
table or a MedMNIST .npz file. Metadata of image files and DICOM tags are not
copied; patients become keyed hashes (docs/privacy.md); ids are the file names
as they are, and a table's other columns are kept.

  --out=DIR                folder for the shards
  --workers=N              processes that decode
  --FIELD=VALUE            fields of the source, below

examples:
  ttl-jax prepare xrays --out=prepared/xrays
  ttl-jax prepare table.csv --root=images --label=diagnosis --group=patient_id \\
      --out=prepared/skin
  ttl-jax prepare scans.csv --name=dicom --root=export --window=lung \\
      --out=prepared/ct
"""


# Fields of `config.data` that say what the images are; the others hold when a run reads the shards.
FIELDS = (
    "name", "on_error", "root", "image", "label", "labels", "group", "split", "window", "slices", "spacing",
    "plane",
)  # fmt: skip


def run(arguments: list[str]) -> None:
    """Writes a folder, table, DICOM or NIfTI source as shards with a manifest."""
    from ttl_jax.data.bucket import here
    from ttl_jax.data.prepared.prepare import prepare
    from ttl_jax.data.sources.registry import guess_source
    from ttl_jax.system import remote

    defaults = DataConfig()
    kinds: dict[str, Callable[[str], Any]] = {name: type(getattr(defaults, name)) for name in FIELDS}
    kinds |= {"out": str, "workers": int}
    known = tuple(kinds)
    given: dict[str, Any] = {}
    sources = [word for word in arguments if not word.startswith("-")]
    for word in arguments:
        name, equals, value = word.removeprefix("--").partition("=")
        if word in sources:
            continue
        if not word.startswith("--") or name not in known:
            raise unknown_argument(word, tuple(f"--{name}" for name in known))
        if not equals or not value:
            raise UserError(f"{word} has no value: write --{name}=VALUE")
        try:
            given[name] = kinds[name](value)
        except ValueError:
            raise UserError(f"--{name}={value} is not a number") from None
    if len(sources) != 1 or "out" not in given:
        raise UserError("prepare needs one source and --out=DIR, as in: prepare images --out=prepared")
    out, workers = given.pop("out"), given.pop("workers", None)
    settings = replace(DataConfig(path=sources[0]), **given)
    if "name" not in given:
        settings = replace(settings, name=guess_source(here(settings).path))
    with remote.workfolder(out) as (folder, _):
        done = prepare(settings, folder, workers)
    print(
        f"{out}: {done.images} images in {done.size / 1e6:.1f} MB, {done.skipped} skipped; shards: "
        f"{done.made} written, {done.kept} kept\ntrain on it with: --config.data.name=record "
        f"--config.data.path={out}"
    )


def fields(arguments: list[str]) -> str:
    """The fields of the source, for the end of the help."""
    lines = ["\nfields, as in --config.data.FIELD (name is guessed from SOURCE):\n"]
    for name, about, value in leaves(DataConfig()):
        lines += field_help(f"--{name}", about, value) if name in FIELDS else []
    return "\n".join(lines) + "\n"
