"""Scores, calibration, statistics, and the prediction files that they are computed from."""

from ttl_jax.evaluation import predictions, registry
from ttl_jax.evaluation.bootstrap import Interval, bootstrap_ci
from ttl_jax.evaluation.brier import Brier, brier_decomposition, brier_parts
from ttl_jax.evaluation.calibration import Calibration, calibration, fit_temperature
from ttl_jax.evaluation.components import Component, Components, Needed, needed, paired_components, power_at
from ttl_jax.evaluation.conformal import Abstention, ConformalSets, fit_abstention, fit_sets
from ttl_jax.evaluation.delong import DeLong, delong, delong_covariance
from ttl_jax.evaluation.influence import Influence, influence, jackknife
from ttl_jax.evaluation.intervals import (
    MeanInterval,
    Proportion,
    clustered_proportion,
    intervals_of,
    mean_interval,
    score_interval,
)
from ttl_jax.evaluation.metrics import confusion, score, score_many
from ttl_jax.evaluation.moderation import Prior, moderated, variance_prior
from ttl_jax.evaluation.multiple import (
    Friedman,
    SignedRank,
    bayesian_signed_rank,
    cliques,
    friedman_nemenyi,
    holm,
)
from ttl_jax.evaluation.outcomes import Outcomes, outcomes
from ttl_jax.evaluation.paired import (
    Difference,
    McNemar,
    difference_of,
    fold_difference,
    mcnemar,
    paired_difference,
    paired_permutation,
)
from ttl_jax.evaluation.pooled import Pooled, pooled_difference
from ttl_jax.evaluation.predictions import Predictions, Question, questions
from ttl_jax.evaluation.probability import decide, log_odds, probabilities
from ttl_jax.evaluation.registry import Metric, of_counts, of_errors, of_outcomes
from ttl_jax.evaluation.subgroups import Subgroup, subgroups
from ttl_jax.evaluation.thresholds import (
    DecisionCurve,
    Operating,
    decision_curve,
    operating_point,
    threshold_at,
)

__all__ = [
    "Abstention", "Brier", "Calibration", "Component", "Components", "ConformalSets", "DeLong",
    "DecisionCurve", "Difference", "Friedman", "Influence", "Interval", "McNemar", "MeanInterval",
    "Metric", "Needed", "Operating", "Outcomes", "Pooled", "Predictions", "Prior", "Proportion",
    "Question", "SignedRank", "Subgroup", "bayesian_signed_rank", "bootstrap_ci", "brier_decomposition",
    "brier_parts", "calibration", "cliques", "clustered_proportion", "confusion", "decide",
    "decision_curve", "delong", "delong_covariance", "difference_of", "fit_abstention", "fit_sets",
    "fit_temperature", "fold_difference", "friedman_nemenyi", "holm", "influence", "intervals_of",
    "jackknife", "log_odds", "mcnemar", "mean_interval", "moderated", "needed", "of_counts", "of_errors",
    "of_outcomes", "operating_point", "outcomes", "paired_components", "paired_difference",
    "paired_permutation", "pooled_difference", "power_at", "predictions", "probabilities", "questions",
    "registry", "score", "score_interval", "score_many", "subgroups", "threshold_at", "variance_prior",
]  # fmt: skip
