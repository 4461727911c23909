"""Runs one of benchmarks/*.py of this checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from ttl_jax.errors import UserError, nearest

SUMMARY = "measure speed, beside PyTorch, and whether claims hold"

HELP = """usage: python -m ttl_jax bench NAME [--help]

Runs one of benchmarks/*.py. The comparison with PyTorch needs `make parity` once, for torch.

example:
  python -m ttl_jax bench cpu --cases=resnet50:128 --modes=train
"""


def run(arguments: list[str]) -> None:
    """Runs one of benchmarks/*.py of this checkout."""
    import importlib.util

    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    known = tuple(sorted(path.stem for path in folder.glob("*.py")))
    if not known:
        raise UserError(
            "bench needs a checkout of the project: benchmarks/ is not installed with the package"
        )
    if not arguments or arguments[0] not in known:
        raise UserError(f"bench takes the name of a benchmark{nearest((arguments or [''])[0], known)}")
    spec = importlib.util.spec_from_file_location(f"benchmarks_{arguments[0]}", folder / f"{arguments[0]}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    module.main(arguments[1:])
