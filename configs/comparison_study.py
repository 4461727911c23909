"""The eight strategies of Davila et al., a cut and a freeze, on five data sets of four modalities.

    python -m ttl_jax compare --config=configs/comparison_study.py --workdir=runs/comparison_study

EfficientNet-Lite0 (ImageNet) at 64 px, at most 400 training images, 5 seeds, the same number of epochs
for all; the learning rate of each strategy is the best of three on validation (first seed), and of a
fourth beyond the best one where that is the lowest or the highest. No split has a copy, a patient or a
lesion on two sides. Cells that configs/strategies_study.py has in the same work folder are not repeated.
Results: docs/results/comparison_study.md.
"""

from ttl_jax.compare.config import default_config
from ttl_jax.config import set_fields

STRATEGIES = (
    "full", "linear_probe", "gradual_last_first", "gradual_first_last", "lp_ft", "l1_sp", "l2_sp", "auto_rgn",
    "truncated(stage='stage5')", "layerwise(stage='stage3')",
)  # fmt: skip


def get_config():
    config = default_config()
    set_fields(
        config,
        {
            "compare.strategies": STRATEGIES,
            "compare.models": ("efficientnet_lite0",),
            "compare.datasets": (
                "pneumoniamnist", "brain_tumor_mri", "breastmnist_resplit", "lc25000_colon", "ham10000",
            ),
            "compare.seeds": (0, 1, 2, 3, 4),
            "compare.lrs": (1e-3, 3e-3, 1e-2),
            "compare.extend": 1,
            "compare.keep": "none",
            "compare.folds": "0",
            "data.image_size": 64,
            "data.train_limit": 400,
            "data.augment": "none",
            "total_epochs": 6.0,
            "eval_every_epochs": 2.0,
        },
    )  # fmt: skip
    return config
