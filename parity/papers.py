"""Reference networks that torchvision lacks, in torch, under the parameter names of their papers' code.

Written from the definitions (methods.md B.4 and B.10, the papers), independently of ttl_jax.models.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Taps = dict[str, tuple[str, Callable]]


def same(x: torch.Tensor) -> torch.Tensor:
    """What a tap sees, as it is."""
    return x


class CBRLayer(nn.Module):
    """Convolution without padding, BatchNorm, ReLU."""

    def __init__(self, channels: int, features: int, window: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, features, window), nn.BatchNorm2d(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))


class CBR(nn.Module):
    """TransFusion's small networks (Raghu et al. 2019)."""

    def __init__(self, window: int, widths: tuple[int, ...], last_pool: bool, classes: int) -> None:
        super().__init__()
        channels, self.layers = 3, []
        for number, width in enumerate(widths, start=1):
            setattr(self, f"CBR{number}", CBRLayer(channels, width, window))
            self.layers.append(f"CBR{number}")
            if number < len(widths) or last_pool:
                setattr(self, f"pool{number}", nn.MaxPool2d(3, 2))
                self.layers.append(f"pool{number}")
            channels = width
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = getattr(self, layer)(x)
        return self.fc(torch.dropout(x.mean((2, 3)), 0.1, self.training))

    def taps(self) -> Taps:
        found: Taps = {}
        for layer in self.layers:
            found[f"stage{layer[-1]}/{'pool' if layer.startswith('pool') else 'conv'}"] = (layer, same)
        return found


# name -> (factory of the reference, with the number of classes; shape of one example)
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    "cbr_larget": (lambda classes: CBR(7, (32, 64, 128, 256, 512), False, classes), (224, 224, 3)),
    "cbr_largew": (lambda classes: CBR(7, (64, 128, 256, 512), True, classes), (128, 128, 3)),
    "cbr_small": (lambda classes: CBR(7, (32, 64, 128, 256), True, classes), (128, 128, 3)),
    "cbr_tiny": (lambda classes: CBR(5, (64, 128, 256, 512), True, classes), (96, 96, 3)),
}
