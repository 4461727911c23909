"""Every strategy on two data sets: which one, on little data, at what cost, with what certainty.

    python -m ttl_jax compare --config=configs/strategies_study.py --workdir=runs/strategies_study

EfficientNet-Lite0 (ImageNet) at 64 px, at most 400 training images, 3 seeds, the same number of
epochs for all; the learning rate of each strategy is the best of three on validation (first seed),
and of a fourth beyond the best one where that is the lowest or the highest.
brain_tumor_mri is split anew with copies kept together, for its author's own split leaks. Results:
docs/results/strategies_study.md. Stopped at any moment, the same command goes on.
"""

from ttl_jax.compare.config import default_config
from ttl_jax.config import set_fields

STRATEGIES = (
    # the eight of Davila et al. 2024
    "full", "linear_probe", "gradual_last_first", "gradual_first_last", "lp_ft", "l1_sp", "l2_sp", "auto_rgn",
    # TruncatedTL and what it is compared with: cuts at the end of stages 5 and 3 of 7
    "truncated(stage='stage5')", "truncated(stage='stage3')", "transfusion(9)",
    "layerwise(stage='stage3')", "layerwise(stage='stage5')",
    # the others of the catalogue
    "auto_snr", "weight_transfusion('stage3/block2')", "mean_var", "discriminative",
    "surgical('stage1', 'stage2', stage=True)", "bitfit", "norm_only", "bss", "delta", "stochnorm",
    "cotuning", "ema(0.9)", "soup", "lp_ft+wise_ft", "scratch",
)  # fmt: skip


def get_config():
    config = default_config()
    set_fields(
        config,
        {
            "compare.strategies": STRATEGIES,
            "compare.models": ("efficientnet_lite0",),
            "compare.datasets": ("pneumoniamnist", "brain_tumor_mri"),
            "compare.seeds": (0, 1, 2),
            "compare.folds": "0",  # one split each: three seeds of 28 strategies are two hours already
            "compare.together": False,  # so that a probe's seconds are those of a run of its own
            "compare.lrs": (1e-3, 3e-3, 1e-2),
            "compare.extend": 1,
            "compare.keep": "none",
            "data.image_size": 64,
            "data.train_limit": 400,
            "data.augment": "none",
            "total_epochs": 6.0,
            "eval_every_epochs": 2.0,
        },
    )
    return config
