"""ResNet-18 cut after each of the units that pretrained weights reach: what depth is worth, unit by unit.

    python -m ttl_jax compare --config=cuts_study --workdir=runs/cuts_study

The weights file has ImageNet's stem and stages 1 to 3 (units 1 to 7 of 9). 64 px, at most 400 training
images, 3 seeds, 6 epochs; each cut's learning rate is the best of two on validation. Its results of
2026-11-21 were withdrawn: docs/results/withdrawn.md. Behind the colon: weights=FILE.
"""

from ttl_jax.compare import studies
from ttl_jax.config import parse_arg

CUTS = tuple(f"truncated({unit})" for unit in range(1, 8))


def get_config(arg=None):
    given = parse_arg(arg, weights="../shared/weights/resnet18_imagenet_to_layer3.safetensors")
    return studies.study(
        {
            "compare.strategies": CUTS,
            "compare.reference": CUTS[-1],
            "compare.models": ("resnet18",),
            "compare.datasets": ("ham10000", "brain_tumor_mri"),
            "compare.seeds": (0, 1, 2),
            "compare.lrs": (3e-4, 1e-3),
            "model.weights": given["weights"],
        }
    )
