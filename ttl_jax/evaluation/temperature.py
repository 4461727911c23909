"""Temperature scaling: one number, fitted on validation, that mends over-confidence."""

from __future__ import annotations

import numpy as np

from ttl_jax.evaluation.probability import Task, checked_labels, checked_logits
from ttl_jax.typing import Float, Shaped


def fit_temperature(
    labels: Shaped[np.ndarray, "..."], logits: Float[np.ndarray, "n c"], task: Task = "multiclass"
) -> float:
    """The T > 0 that minimises the cross-entropy of logits / T (Guo et al. 2017, section 4.2).

    Fit it on validation and divide the test logits by it: rankings and likeliest classes stay. The
    loss is convex in 1 / T; T is kept within 0.01 (towards which it goes where every example is right)
    and 100 (where all are wrong).

    Raises:
        ValueError: shapes or values that do not fit, or nothing known to fit on.
    """
    from scipy import optimize

    values = checked_logits(logits, task)
    truth = checked_labels(labels, values, task)
    if task == "multilabel":
        known = ~np.isnan(truth)
        # a label is a two-class problem: the loss is that of its logit, signed
        margins = np.where(truth == 1, values, -values)[known][:, None]
        others = -margins
    else:
        right = np.take_along_axis(values, truth[:, None], axis=1)
        others = values - right
    if not len(others):
        raise ValueError("a temperature cannot be fitted on no examples")

    def loss(log_scale: float) -> float:
        scaled = others * np.exp(log_scale)
        if task == "multilabel":
            return float(np.logaddexp(0.0, scaled).mean())
        top = scaled.max(axis=1, keepdims=True)
        return float((top[:, 0] + np.log(np.exp(scaled - top).sum(axis=1))).mean())

    edge = np.log(100.0)
    minimum = optimize.minimize_scalar(loss, bounds=(-edge, edge), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(-minimum.x))
