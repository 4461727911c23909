"""Says what of this machine would stop a run; exit status 2 where something would."""

from __future__ import annotations

import json

from ttl_jax.commands.arguments import config_and_workdir
from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError

SUMMARY = "what of this machine would stop a run"

HELP = """usage: python -m ttl_jax doctor [--json] [--config=FILE --workdir=DIR ...]

Python, packages, JAX and its devices, memory, disk, caches, weights, data paths, Google Cloud Storage:
one line a check, with the remedy. Exit status 2 where a run would fail.

examples:
  python -m ttl_jax doctor
  python -m ttl_jax doctor --config=train:model=resnet50 --config.data.path=/data --workdir=runs/a
"""


def run(arguments: list[str]) -> None:
    """Says what of this machine would stop a run; exit status 2 where something would."""
    from ttl_jax.commands import doctor_checks

    words = [word for word in arguments if word != "--json"]
    paths, model, source = {}, "", ""
    if any(word.startswith("--config") for word in words):
        config, workdir = config_and_workdir(words, RunConfig, needs_workdir=False)
        model, source = config.model.name, config.model.weights
        paths = {"workdir": workdir, "data": config.data.path}
        if source.endswith((".pth", ".pt", ".safetensors", ".h5", ".keras", ".npz")) or "/" in source:
            paths["weights"] = source
    elif words:
        raise UserError(
            f"argument {words[0]!r} is not understood; doctor takes --json, --config and --workdir"
        )
    checks = doctor_checks.examine(paths, model, source)
    if "--json" in arguments:
        print(json.dumps(doctor_checks.as_rows(checks), indent=1))
    else:
        for check in checks:
            print(check.line())
    bad = [check.name for check in checks if check.status == doctor_checks.FAIL]
    if bad:
        raise UserError(f"{len(bad)} of {len(checks)} checks failed: {', '.join(bad)}")
