"""Reference networks that torchvision lacks, in torch, under the parameter names of their papers' code.

Written from the definitions (methods.md B.4 and B.10, the papers), independently of ttl_jax.models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
        self.dropout, self.fc = nn.Dropout(0.1), nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = getattr(self, layer)(x)
        return self.fc(self.dropout(x.mean((2, 3))))

    def taps(self) -> Taps:
        found: Taps = {}
        for layer in self.layers:
            found[f"stage{layer[-1]}/{'pool' if layer.startswith('pool') else 'conv'}"] = (layer, same)
        return found


class Volumetric(nn.Module):
    """A torchvision ResNet or DenseNet of images with every layer made 3D (Hara et al. 2018).

    Windows become as deep as wide; the first convolution keeps the number of slices.
    """

    def __init__(self, name: str, classes: int) -> None:
        super().__init__()
        import torchvision

        flat = getattr(torchvision.models, name)(num_classes=classes)
        self._deepen(flat)
        for child, layer in flat.named_children():
            self.add_module(child, layer)
        first = self.conv1 if name.startswith("resnet") else self.features.conv0
        first.stride = (1, 2, 2)

    def _deepen(self, module: nn.Module) -> None:
        for name, layer in module.named_children():
            if isinstance(layer, nn.Conv2d):
                new: nn.Module = nn.Conv3d(
                    layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0],
                    layer.padding[0], bias=layer.bias is not None,
                )  # fmt: skip
            elif isinstance(layer, nn.BatchNorm2d):
                new = nn.BatchNorm3d(layer.num_features)
            elif isinstance(layer, nn.MaxPool2d):
                new = nn.MaxPool3d(layer.kernel_size, layer.stride, layer.padding)
            elif isinstance(layer, nn.AvgPool2d):
                new = nn.AvgPool3d(layer.kernel_size, layer.stride, layer.padding)
            else:
                self._deepen(layer)
                continue
            setattr(module, name, new)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if hasattr(self, "features"):
            return self.classifier(torch.relu(self.features(x)).mean((2, 3, 4)))
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3, 4)))


def r3d_18(classes: int) -> nn.Module:
    """torchvision's own."""
    import torchvision

    return torchvision.models.video.r3d_18(num_classes=classes)


class StandardisedConv(nn.Conv2d):
    """Each output channel's kernel with mean 0 and variance 1 (Qiao et al. 2019); timm's epsilon for BiT."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.flatten(1).double()
        flat = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, unbiased=False, keepdim=True) + 1e-8).sqrt()
        return nn.functional.conv2d(x, flat.view_as(self.weight).to(x.dtype), None, self.stride, self.padding)


class BiTBlock(nn.Module):
    """Pre-activation bottleneck in timm's names."""

    def __init__(self, channels: int, inner: int, stride: int, project: bool) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, channels), StandardisedConv(channels, inner, 1)
        self.norm2, self.conv2 = nn.GroupNorm(32, inner), StandardisedConv(inner, inner, 3, stride, 1)
        self.norm3, self.conv3 = nn.GroupNorm(32, inner), StandardisedConv(inner, 4 * inner, 1)
        self.downsample = None
        if project:
            self.downsample = nn.Sequential()
            self.downsample.add_module("conv", StandardisedConv(channels, 4 * inner, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.norm1(x))
        y = self.conv2(torch.relu(self.norm2(self.conv1(first))))
        y = self.conv3(torch.relu(self.norm3(y)))
        return y + (x if self.downsample is None else self.downsample(first))


class BiT(nn.Module):
    """Big Transfer's ResNet-50 v2 (Kolesnikov et al. 2020), `factor` times as wide."""

    def __init__(self, factor: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        self.stem.add_module("conv", StandardisedConv(3, 64 * factor, 7, 2, 3))
        self.stem.add_module("pad", nn.ZeroPad2d(1))  # zeros, which may win the pool
        self.stem.add_module("pool", nn.MaxPool2d(3, 2))
        self.stages, channels = nn.ModuleList(), 64 * factor
        for stage, depth in enumerate((3, 4, 6, 3)):
            inner, blocks = 64 * factor * 2**stage, nn.Sequential()
            for block in range(depth):
                stride = 2 if block == 0 and stage > 0 else 1
                blocks.append(BiTBlock(channels, inner, stride, block == 0))
                channels = 4 * inner
            holder = nn.Module()
            holder.add_module("blocks", blocks)
            self.stages.append(holder)
        self.norm = nn.GroupNorm(32, channels)
        self.head = nn.Module()
        self.head.add_module("fc", nn.Conv2d(channels, classes, 1))
        for layer in self.modules():
            if isinstance(layer, StandardisedConv):
                layer.bias = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage.blocks(x)
        return self.head.fc(torch.relu(self.norm(x)).mean((2, 3), keepdim=True)).flatten(1)

    def taps(self) -> Taps:
        found: Taps = {"stem": ("stem", same)}
        for stage, holder in enumerate(self.stages):
            for block in range(len(holder.blocks)):
                found[f"stage{stage + 1}/block{block + 1}"] = (f"stages.{stage}.blocks.{block}", same)
        found["stage4/block3"] = ("norm", torch.relu)
        return found


class CLIPBlock(nn.Module):
    """Bottleneck with average pools for strides, in OpenAI's names."""

    def __init__(self, channels: int, inner: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)
        self.pool = nn.AvgPool2d(stride)
        self.downsample = None
        if project:  # the pool has the name "-1" in the original, and no parameters
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.pool(torch.relu(self.bn2(self.conv2(y))))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(self.pool(x))))


class CLIPAttention(nn.Module):
    """Attention pool through torch's own multi-head attention, in OpenAI's names."""

    def __init__(self, channels: int, heads: int, embedding: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(50, channels))
        self.q_proj, self.k_proj = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.v_proj, self.c_proj = nn.Linear(channels, channels), nn.Linear(channels, embedding)

    def places(self, height: int, width: int) -> torch.Tensor:
        """The embeddings of a map of another size: ours, the original knows 7x7 only."""
        grid = self.positional_embedding[1:].T.reshape(1, -1, 7, 7)
        if (height, width) != (7, 7):
            grid = nn.functional.interpolate(
                grid, (height, width), mode="bilinear", align_corners=False, antialias=True
            )
        return grid.flatten(2)[0].T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedding = torch.cat([self.positional_embedding[:1], self.places(*x.shape[2:])])
        tokens = x.flatten(2).permute(2, 0, 1)
        tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + embedding[:, None]
        pooled, _ = nn.functional.multi_head_attention_forward(
            tokens[:1], tokens, tokens, tokens.shape[-1], self.heads, None,
            torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias]), None, None, False, 0.0,
            self.c_proj.weight, self.c_proj.bias, training=False, need_weights=False,
            use_separate_proj_weight=True, q_proj_weight=self.q_proj.weight,
            k_proj_weight=self.k_proj.weight, v_proj_weight=self.v_proj.weight,
        )  # fmt: skip
        return pooled[0]


class CLIPTower(nn.Module):
    """CLIP's ResNet-50 for images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32)
        self.conv3, self.bn3 = nn.Conv2d(32, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        self.avgpool, channels = nn.AvgPool2d(2), 64
        for stage, depth in enumerate((3, 4, 6, 3)):
            inner, blocks = 64 * 2**stage, nn.Sequential()
            for block in range(depth):
                blocks.append(CLIPBlock(channels, inner, 2 if block == 0 and stage else 1, block == 0))
                channels = 4 * inner
            setattr(self, f"layer{stage + 1}", blocks)
        self.attnpool = CLIPAttention(channels, 32, 1024)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number in (1, 2, 3):
            x = torch.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)))
        x = self.avgpool(x)
        for number in (1, 2, 3, 4):
            x = getattr(self, f"layer{number}")(x)
        return self.attnpool(x)


class CLIPProbe(nn.Module):
    """The tower under the name that it has in CLIP's files, with a linear layer on it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.visual, self.fc = CLIPTower(), nn.Linear(1024, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.visual(x))

    def taps(self) -> Taps:
        found: Taps = {"stem": ("visual.avgpool", same), "attention": ("visual.attnpool", same)}
        for stage, depth in enumerate((3, 4, 6, 3), start=1):
            for block in range(depth):
                found[f"stage{stage}/block{block + 1}"] = (f"visual.layer{stage}.{block}", same)
        return found


def _leaky(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.leaky_relu(x, 0.01)


class PENetGate(nn.Module):
    """Squeeze-excite, in the names of PENet's code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.excite = nn.Sequential(
            nn.Linear(channels, channels // 16), nn.LeakyReLU(), nn.Linear(channels // 16, channels),
            nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.excite(x.mean((2, 3, 4)))[:, :, None, None, None]


class PENetBlock(nn.Module):
    """ResNeXt bottleneck of 32 groups, in the names of PENet's code."""

    def __init__(self, channels: int, inner: int, stride: int, project: bool) -> None:
        super().__init__()
        outer = 2 * inner
        self.conv1, self.norm1 = nn.Conv3d(channels, inner, 1, bias=False), nn.GroupNorm(inner // 16, inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride, 1, groups=32, bias=False)
        self.norm2 = nn.GroupNorm(inner // 16, inner)
        self.conv3, self.norm3 = nn.Conv3d(inner, outer, 1, bias=False), nn.GroupNorm(outer // 16, outer)
        self.se_block, self.down_sample = PENetGate(outer), None
        if project:
            self.down_sample = nn.Sequential(
                nn.Conv3d(channels, outer, 1, stride, bias=False), nn.GroupNorm(outer // 16, outer)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = _leaky(self.norm2(self.conv2(_leaky(self.norm1(self.conv1(x))))))
        y = self.se_block(self.norm3(self.conv3(y)))
        return _leaky(y + (x if self.down_sample is None else self.down_sample(x)))


class PENet(nn.Module):
    """PENet's classifier (Huang et al. 2020)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(
            nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False), nn.GroupNorm(4, 64), nn.LeakyReLU()
        )
        self.max_pool, self.encoders, channels = nn.MaxPool3d(3, 2, 1), nn.ModuleList(), 64
        for stage, depth in enumerate((3, 4, 6, 3)):
            inner, encoder = 128 * 2**stage, nn.Module()
            blocks = nn.Sequential()
            for block in range(depth):
                blocks.append(PENetBlock(channels, inner, 2 if block == 0 and stage else 1, block == 0))
                channels = 2 * inner
            encoder.add_module("penet_blocks", blocks)
            self.encoders.append(encoder)
        self.classifier = nn.Module()
        self.classifier.add_module("fc", nn.Linear(channels, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.max_pool(self.in_conv(x))
        for encoder in self.encoders:
            x = encoder.penet_blocks(x)
        return self.classifier.fc(x.mean((2, 3, 4)))

    def taps(self) -> Taps:
        found: Taps = {"stem": ("max_pool", same)}
        for stage, encoder in enumerate(self.encoders):
            for block in range(len(encoder.penet_blocks)):
                path = f"encoders.{stage}.penet_blocks.{block}"
                found[f"stage{stage + 1}/block{block + 1}"] = (path, same)
        return found


# name -> (factory of the reference, with the number of classes; shape of one example)
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    "cbr_larget": (lambda classes: CBR(7, (32, 64, 128, 256, 512), False, classes), (224, 224, 3)),
    "cbr_largew": (lambda classes: CBR(7, (64, 128, 256, 512), True, classes), (128, 128, 3)),
    "cbr_small": (lambda classes: CBR(7, (32, 64, 128, 256), True, classes), (128, 128, 3)),
    "bit_r50x1": (partial(BiT, 1), (64, 64, 3)),
    "bit_r50x3": (partial(BiT, 3), (64, 64, 3)),
    "clip_resnet50": (CLIPProbe, (224, 224, 3)),
    "penet": (PENet, (16, 48, 48, 3)),
    "resnet18_3d": (r3d_18, (8, 40, 40, 3)),
    **{
        f"{name}_3d": (partial(Volumetric, name), (16, 32, 32, 3))
        for name in (
            "resnet34",
            "resnet50",
            "resnet101",
            "resnet152",
            "densenet121",
            "densenet169",
            "densenet201",
        )
    },  # fmt: skip
    "cbr_tiny": (lambda classes: CBR(5, (64, 128, 256, 512), True, classes), (96, 96, 3)),
}
