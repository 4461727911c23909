"""Scans a folder of outputs for what identifies patients."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ttl_jax.commands.arguments import Parser
from ttl_jax.commands.printing import print_rows
from ttl_jax.errors import FaultsFoundError, UserError

SUMMARY = "scan outputs for names, ids, dates, paths"

HELP = """usage: ttl-jax privacy FOLDER [--values=FILE] [--json]
       ttl-jax privacy RUN --names

Looks through every file of a run, an export or any other folder for what may
tell whose images it is of: the ids, groups and identifying columns of the run's
own data, DICOM tags, names and UIDs, dates of a day, absolute paths. Says file,
kind, count and the first text of each; exit status 1 where something is found.
What is drawn in the pixels of an image is not looked for. docs/privacy.md
explains what outputs hold.

  --values=FILE            more texts to look for, one a line
  --names                  prints the hashes that stand in the run's outputs,
                           and what they stand for: not to be handed on
  --json                   for programs

examples:
  ttl-jax privacy runs/skin
  ttl-jax privacy runs/skin/export --values=patients.txt
"""


def run(arguments: list[str]) -> None:
    """Prints what was found, or the names behind the hashes."""
    parser = Parser("privacy")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--values", type=Path)
    parser.add_argument("--names", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        raise UserError(f"{given.folder} is no folder: name a run, or another folder of outputs")
    from ttl_jax.deploy.identifying import known_texts, names_behind, scan

    if given.names:
        with redirect_stdout(sys.stderr):  # what the source says of its files
            rows = names_behind(given.folder)
        print_rows(rows, given.json)
        return
    with redirect_stdout(sys.stderr):
        known, why = known_texts(given.folder)
    if given.values is not None:
        lines = given.values.read_text(encoding="utf-8").splitlines()
        known |= {line.strip(): "value" for line in lines if line.strip()}
    occurrences = scan(given.folder, known)
    if occurrences or given.json:
        print_rows([dataclasses.asdict(each) for each in occurrences], given.json)
    if why and not given.json:
        print(f"note: {why}: only dates, paths, DICOM names and UIDs were looked for")
    if occurrences:
        kinds = ", ".join(sorted({each.kind for each in occurrences}))
        files = len({each.file for each in occurrences})
        raise FaultsFoundError(f"{given.folder} holds what may identify ({kinds}), in {files} files")
    if not given.json:
        print(f"nothing that identifies was found in {given.folder}")
