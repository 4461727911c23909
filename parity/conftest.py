"""Live comparison with torch and torchvision: `make parity`. Never a part of `make test`."""

import sys
from pathlib import Path

import torch

# pytest runs with --import-mode=importlib, which does not put this folder on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

# torchvision declares fake kernels for two compiled operations when it is imported, and fails on a
# CPU build of torch where nothing has declared these operations; declaring them is enough.
_operations = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _operations.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
