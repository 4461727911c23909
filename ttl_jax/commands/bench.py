"""Runs one of benchmarks/*.py."""

from __future__ import annotations

import ast
import sys

from ttl_jax.commands.printing import print_rows
from ttl_jax.errors import UserError, nearest
from ttl_jax.system import folders

SUMMARY = "measure speed, beside PyTorch, and whether claims hold"

HELP = """usage: ttl-jax bench [NAME] [...]

Runs a benchmark; without NAME lists them. A comparison with PyTorch needs a
checkout of the project, and `make parity` there once, for torch.

  --json                   the list, for programs
  --help                   behind NAME: what it measures and takes

examples:
  ttl-jax bench
  ttl-jax bench cpu --cases=resnet50:128 --modes=train
"""


def run(arguments: list[str]) -> None:
    """Runs one of benchmarks/*.py."""
    import importlib.util

    known = folders.shipped_names("benchmarks")
    if arguments in ([], ["--json"]):
        print_rows([{"benchmark": name, "what it measures": _about(name)} for name in known], bool(arguments))
        return
    name = arguments[0]
    if name not in known:
        raise UserError(f"bench takes the name of a benchmark{nearest(name, known)}")
    path = folders.shipped("benchmarks") / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    module.main(arguments[1:])


def _about(name: str) -> str:
    """The first sentence of a benchmark's docstring."""
    said = ast.get_docstring(ast.parse((folders.shipped("benchmarks") / f"{name}.py").read_text())) or ""
    return " ".join(said.split("\n\n")[0].split()).partition(" `python")[0].partition(". ")[0].rstrip(":.")
