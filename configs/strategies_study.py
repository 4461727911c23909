"""Every strategy on two data sets: which one, on little data, at what cost, with what certainty.

    python -m ttl_jax compare --config=strategies_study --workdir=runs/strategies_study

EfficientNet-Lite0 (ImageNet) at 64 px, at most 400 training images, 3 seeds, the same number of
epochs for all; the learning rate of each strategy is the best of three on validation (first seed),
and of a fourth beyond the best one where that is the lowest or the highest.
brain_tumor_mri is split anew with copies kept together, for its author's own split leaks. Its results of
2026-11-21 were withdrawn: docs/results/withdrawn.md. Stopped at any moment, the same command goes on.
"""

from ttl_jax.compare import studies

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
    return studies.study(
        studies.STRATEGIES,
        {
            "compare.strategies": STRATEGIES,
            "compare.datasets": ("pneumoniamnist", "brain_tumor_mri"),
            "compare.seeds": (0, 1, 2),
            "compare.together": False,  # so that a probe's seconds are those of a run of its own
        },
    )
