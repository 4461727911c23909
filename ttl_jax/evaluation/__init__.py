"""Scores, calibration, intervals, and the prediction files that they are computed from."""

from ttl_jax.evaluation import predictions
from ttl_jax.evaluation.bootstrap import Interval, bootstrap_ci
from ttl_jax.evaluation.calibration import Calibration, calibration
from ttl_jax.evaluation.metrics import confusion, score
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.evaluation.probability import decide, log_odds, probabilities
from ttl_jax.evaluation.seeds import MeanInterval, mean_interval

__all__ = [
    "Calibration", "Interval", "MeanInterval", "Predictions", "bootstrap_ci", "calibration",
    "confusion", "decide", "log_odds", "mean_interval", "predictions", "probabilities", "score",
]  # fmt: skip
