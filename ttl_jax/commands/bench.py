"""Runs one of benchmarks/*.py."""

from __future__ import annotations

import sys

from ttl_jax.errors import UserError, nearest
from ttl_jax.system import shipped

SUMMARY = "measure speed, beside PyTorch, and whether claims hold"

HELP = """usage: python -m ttl_jax bench NAME [--help]

Runs one of benchmarks/*.py, which says with --help what it takes and measures. A comparison with PyTorch
needs a checkout of the project, and `make parity` there once, for torch.

example:
  python -m ttl_jax bench cpu --cases=resnet50:128 --modes=train
"""


def run(arguments: list[str]) -> None:
    """Runs one of benchmarks/*.py."""
    import importlib.util

    name, known = (arguments or [""])[0], shipped.names("benchmarks")
    if name not in known:
        raise UserError(f"bench takes the name of a benchmark{nearest(name, known)}")
    path = shipped.folder("benchmarks") / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    module.main(arguments[1:])
