"""The eight strategies of Davila et al., a cut and a freeze, on five data sets of four modalities.

    python -m ttl_jax compare --config=comparison_study --workdir=runs/comparison_study

EfficientNet-Lite0 (ImageNet) at 64 px, at most 400 training images, 5 seeds, the same number of epochs
for all; the learning rate of each strategy is the best of three on validation (first seed), and of a
fourth beyond the best one where that is the lowest or the highest. No split has a copy, a patient or a
lesion on two sides. Cells that configs/strategies_study.py has in the same work folder are not repeated.
Why the results of 2026-11-21 were withdrawn: docs/results/withdrawn.md.
"""

from ttl_jax.compare import studies

STRATEGIES = (
    "full", "linear_probe", "gradual_last_first", "gradual_first_last", "lp_ft", "l1_sp", "l2_sp", "auto_rgn",
    "truncated(stage='stage5')", "layerwise(stage='stage3')",
)  # fmt: skip


def get_config():
    return studies.study(
        studies.STRATEGIES,
        {
            "compare.strategies": STRATEGIES,
            "compare.datasets": (
                "pneumoniamnist", "brain_tumor_mri", "breastmnist_resplit", "lc25000_colon", "ham10000",
            ),
            "compare.seeds": (0, 1, 2, 3, 4),
        },
    )  # fmt: skip
