"""Evaluates a finished run on another data set: an external test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ttl_jax.commands.arguments import Parser, field_help, overridden
from ttl_jax.config import DataConfig
from ttl_jax.config.fields import Section, leaves
from ttl_jax.errors import UserError
from ttl_jax.system.compilation_cache import set_up_jax

SUMMARY = "test a finished run on another data set"

HELP = """usage: ttl-jax evaluate RUN --config.data.path=PATH
                        [--config.data.FIELD=VALUE ...]
                        [--classes=THEIRS=OURS,...] [--split=all] [--out=DIR]

The whole evaluation and report of a finished run on data that it has not seen,
as another hospital's. Weights, temperature and thresholds are those chosen on
the run's validation split; images are brought to its size. Class names must
agree, or --classes says which is which. Beside the scores, with intervals over
patients: prevalence, histograms of scores, calibration before and after
recalibration, images out of distribution, subgroups by the table's other
columns with a test of the gap, and a check that no image is one of the run's
training images (the scores without those stand beside). The run's own results
stay.

  --config.data.FIELD=VALUE
                           the data, as for `train`
  --classes=THEIRS=OURS,...
                           class names of the data, and those of the run
  --split=all              all, or train, val or test where the data have them
  --name=NAME              name of the data set; DIR is RUN/external/NAME
  --out=DIR                folder for report.html, result.json, images.csv and
                           predictions/test.npz

examples:
  ttl-jax evaluate runs/xrays --config.data.name=csv \\
      --config.data.path=other/table.csv --config.data.root=other/images \\
      --config.data.image=file --config.data.label=diagnosis \\
      --config.data.group=patient --classes=none=normal,pneu=pneumonia
  ttl-jax evaluate runs/mri --config.data.name=phantom/mri --split=shifted
"""


@dataclass(frozen=True)
class OtherData(Section):
    """The config of `evaluate`: the other data set."""

    data: DataConfig = DataConfig()


def run(arguments: list[str]) -> None:
    """Evaluates a finished run on another data set: an external test."""
    words = [word for word in arguments if word.startswith("--config.")]
    parser = Parser("evaluate")
    parser.add_argument("run")
    for name in ("classes", "split", "name", "out"):
        parser.add_argument(f"--{name}", default="all" if name == "split" else "")
    given = parser.parse_args([word for word in arguments if word not in words])
    config, classes = overridden(words, OtherData).data, parse_classes(given.classes)
    if not words:
        raise UserError("evaluate needs the data: --config.data.name=KIND --config.data.path=PATH")
    set_up_jax()
    from ttl_jax import report
    from ttl_jax.deploy import load
    from ttl_jax.deploy.evaluate import evaluate, folder_in, name_of
    from ttl_jax.deploy.external_data import refuse_geometry
    from ttl_jax.system import remote

    finished = load(given.run)
    typed = [word.partition("=")[0].removeprefix("--config.data.") for word in words]
    refuse_geometry(typed, config, finished.signature)
    called = given.name or name_of(config, given.split)
    out = given.out or folder_in(given.run, called)
    with remote.workfolder(out) as (folder, _):
        result = evaluate(finished, config, folder, split=given.split, classes=classes, name=called)
        report.print_table(report.rows([folder]))
    for line in said(result["external"]):
        print(line)
    print(f"report: {out}/report.html")


def parse_classes(text: str) -> dict[str, str]:
    """Reads --classes, as "none=normal,pneu=pneumonia".

    Raises:
        UserError: not of that form, or a name that stands there twice.
    """
    classes: dict[str, str] = {}
    for item in text.split(",") if text else ():
        theirs, sign, ours = (part.strip() for part in item.rpartition("="))
        if not sign or not theirs or not ours:
            raise UserError(f"--classes: {item!r} is not of the form THEIRS=OURS")
        if classes.setdefault(theirs, ours) != ours:
            raise UserError(f"--classes: {theirs!r} is {classes[theirs]!r} and {ours!r}; name one")
    return classes


def said(about: dict[str, Any]) -> list[str]:
    """Describe the scores, a line each."""
    lines = []
    if "unknown" in about:
        lines.append(f"no leak check and no out-of-distribution share: {about['unknown']}")
    else:
        away, leaks = about["out_of_distribution"], about["leaks"]
        lines.append(
            f"out of distribution: {away['estimate']:.1%} of the images (of validation's kind it would be "
            f"{away['expected']:.0%})"
        )
        of = f"{leaks['compared_with']:,} of {leaks['training_images']:,} training images"
        lines.append(
            f"leak check against {of}: {leaks['same_pixels']} with the same pixels, {leaks['alike']} alike"
            + (
                "; see images.csv, and the scores without them in the report"
                if about.get("without_leaks")
                else ""
            )
        )
    sets = about["conformal"]
    lines.append(
        f"prediction sets asked to hold {sets['asked']:.0%} of the classes hold {sets['estimate']:.1%}"
    )
    for gap in about["gaps"]:
        if gap["p_holm"] is not None and gap["p_holm"] < 0.05:
            lines.append(
                f"{gap['title']} differs by {gap['column']} (p = {gap['p_holm']:.2g} after Holm): lowest for "
                f"{gap['worst']}, {gap['estimate']:.3f} ({gap['low']:.3f} to {gap['high']:.3f})"
            )
    return lines


def fields(arguments: list[str]) -> str:
    """The fields of the data and their defaults, for the end of the help."""
    lines = ["\nfields of the data, with their defaults; size and resize are the run's:"]
    for path, about, value in leaves(OtherData()):
        lines += field_help(f"--config.{path}", about, value)
    return "\n".join(lines) + "\n"
