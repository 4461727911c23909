"""Says what of this machine would stop a run; exit status 2 where something would."""

from __future__ import annotations

import json

from ttl_jax.commands.arguments import config_and_workdir, unknown_argument
from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError

SUMMARY = "what of this machine would stop a run"

HELP = """usage: ttl-jax doctor [--json] [--config=NAME --workdir=DIR ...]

Looks at Python, packages, JAX and its devices, memory, disk, caches, weights,
data paths and Google Cloud Storage: one line a check, with the remedy. Exit
status 2 where a run would fail.

  --json                   for programs
  --config=NAME            also looks at what this run needs
  --workdir=DIR            also looks at the disk under this folder
  --config.FIELD=VALUE     as for `train`

examples:
  ttl-jax doctor
  ttl-jax doctor --config=train:model=resnet50 --config.data.path=/data
"""


def run(arguments: list[str]) -> None:
    """Says what of this machine would stop a run; exit status 2 where something would."""
    from ttl_jax.commands import doctor_checks

    words = [word for word in arguments if word != "--json"]
    paths, model, source = {}, "", ""
    if any(word.startswith("--config") for word in words):
        config, workdir = config_and_workdir(arguments, RunConfig, needs_workdir=False, switches=("--json",))
        model, source = config.model.name, config.model.weights
        paths = {"workdir": workdir, "data": config.data.path}
        if source.endswith((".pth", ".pt", ".safetensors", ".h5", ".keras", ".npz")) or "/" in source:
            paths["weights"] = source
    elif words:
        raise unknown_argument(words[0], ("--json", "--config", "--workdir"))
    checks = doctor_checks.examine(paths, model, source)
    if "--json" in arguments:
        print(json.dumps(doctor_checks.as_rows(checks), indent=1))
    else:
        for check in checks:
            print(check.line())
    bad = [check.name for check in checks if check.status == doctor_checks.FAIL]
    if bad:
        raise UserError(f"{len(bad)} of {len(checks)} checks failed: {', '.join(bad)}")
