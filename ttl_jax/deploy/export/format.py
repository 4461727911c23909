"""The interface of every export format, and the one error where its libraries are not installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ttl_jax.deploy.export.forward import Forward
from ttl_jax.errors import UserError, nearest
from ttl_jax.typing import Float, UInt8

# uint8 images (N, [D,] S, S, 3) -> probabilities (N, classes)
Predict = Callable[[UInt8[np.ndarray, "n *image"]], Float[np.ndarray, "n classes"]]


class Runnable(NamedTuple):
    """A written file as a function, and what runs it."""

    predict: Predict
    runtime: str


FORMATS = ("onnx", "litert", "stablehlo", "torch", "safetensors", "web")


class Format(Protocol):
    """A module that writes a file, and runs it as its users will.

    Attributes:
        FILE: name of the file.
        NEEDS: modules that it imports, and how they are installed.
    """

    FILE: str
    NEEDS: tuple[tuple[str, ...], str]

    def write(self, forward: Forward, path: Path, metadata: Mapping[str, str]) -> None:
        """Writes the file."""

    def open(self, forward: Forward, path: Path) -> Runnable:
        """The function of the written file, run as its users will."""


def find(name: str) -> Format:
    """The module of a format.

    Raises:
        UserError: no such format, or libraries that are not installed.
    """
    if name not in FORMATS:
        raise UserError(f"--format={name} does not exist{nearest(name, FORMATS)}")
    module: Format = import_module(f"ttl_jax.deploy.export.{name}")
    needed, install = module.NEEDS
    require(f"--format={name}", needed, install)
    return module


def require(what: str, modules: tuple[str, ...], install: str) -> None:
    """Imports modules.

    Raises:
        UserError: naming what needs them and how they are installed.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError:
            raise UserError(f"{what} needs {module.partition('.')[0]}: pip install {install}") from None
