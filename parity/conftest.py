"""Live comparison with torch and torchvision: `make parity`. Never a part of `make test`."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import torch

# pytest runs with --import-mode=importlib, which does not put this folder on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

# torchvision declares fake kernels for two compiled operations when it is imported, and fails on a
# CPU build of torch where nothing has declared these operations; declaring them is enough.
_operations = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _operations.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def pytest_addoption(parser):
    parser.addoption("--float64", action="store_true", help="compute in float64, here and in torch")


def pytest_configure(config):
    """The package says jnp.float32 wherever it means its precision: in float64 that name means float64."""
    torch.set_num_threads(1)  # pytest -n has a process for every core; not above: benchmarks import this file
    if config.getoption("--float64"):
        jax.config.update("jax_enable_x64", True)
        jnp.float32 = jnp.float64
