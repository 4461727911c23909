"""ttl_jax: transfer learning for medical image classification in JAX/Flax.

Submodules and the functions below are imported when first touched, so that `import ttl_jax` is fast.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = (
    "analysis", "compare", "data", "deploy", "evaluation", "models", "report", "search", "strategies",
    "training", "weights",
)  # fmt: skip
_FUNCTIONS = {"finetune": "ttl_jax.training.finetune", "load": "ttl_jax.deploy.finished_run"}

__all__ = ["__version__", *_MODULES, *_FUNCTIONS]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"ttl_jax.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'ttl_jax' has no attribute {name!r}")
