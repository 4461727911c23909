"""MedMNIST v2: PneumoniaMNIST and BreastMNIST, official splits, transfer against the published ResNet-18.

    python -m ttl_jax compare --config=medmnist --workdir=runs/medmnist

Published (Yang et al. 2023; ResNet-18 from scratch, 28 px, 100 epochs, test AUROC / accuracy):
PneumoniaMNIST .944 / .854, BreastMNIST .901 / .863. Here EfficientNet-Lite0 (ImageNet), the 28 px images
enlarged to 64 px, 10 epochs, 5 seeds (docs/results/medmnist.md). The learning rate is chosen on the
official validation split; the test is looked at once a run.
"""

from ttl_jax.compare.config import default_config
from ttl_jax.config import set_fields


def get_config():
    config = default_config()
    set_fields(
        config,
        {
            "compare.strategies": ("full", "lp_ft"),
            "compare.models": ("efficientnet_lite0",),
            "compare.datasets": ("pneumoniamnist", "breastmnist"),
            "compare.seeds": (0, 1, 2, 3, 4),
            "compare.lrs": (1e-3, 3e-3),
            "compare.folds": "0",
            "compare.keep": "none",
            "data.image_size": 64,
        },
    )
    return config
