"""Linear probes in closed form: ridge regression, its penalty chosen by the left-out examples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.typing import Float, Int

Features = Float[np.ndarray, "examples features"]
Labels = Int[np.ndarray, " examples"]


class Ridge(NamedTuple):
    """A linear probe in closed form.

    Attributes:
        weights: (features, classes), of standardised features.
        intercept: (classes,).
        centre, scale: (features,), with which features are standardised.
        alpha: the penalty that was chosen.
        left_out: (examples, classes) predictions of each training example by the probe of the others.
    """

    weights: np.ndarray
    intercept: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    alpha: float
    left_out: np.ndarray

    def __call__(self, features: Features) -> Float[np.ndarray, "examples classes"]:
        """Scores of new examples: near 1 for the class, near -1 for the others."""
        standardised = (features - self.centre) / self.scale
        return np.asarray(standardised @ self.weights + self.intercept)


def ridge_probe(features: Features, labels: Labels, alphas: tuple[float, ...] = ()) -> Ridge:
    """Ridge regression on targets of 1 and -1, the penalty chosen by leave-one-out error.

    One singular value decomposition gives every penalty and every left-out prediction in closed form
    (PRESS; Hastie, Tibshirani and Friedman 2009, 7.10 and 3.4.1).

    Args:
        features: (n, d).
        labels: (n,) class numbers from 0.
        alphas: penalties to choose from, relative to n; by default 13 from 1e-6 to 1e3.

    Raises:
        UserError: shapes that do not fit, or fewer than two classes.
    """
    x, y, classes = checked(features, labels)
    targets = np.where(y[:, None] == np.arange(classes), 1.0, -1.0)
    centre, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    mean = targets.mean(0)
    u, s, vt = np.linalg.svd((x - centre) / scale, full_matrices=False)
    projected = u.T @ (targets - mean)
    best: tuple[float, float, np.ndarray] | None = None
    for alpha in alphas or tuple(np.logspace(-6, 3, 13)):
        shrink = s**2 / (s**2 + alpha * len(x))
        fitted = mean + (u * shrink) @ projected
        leverage = 1 / len(x) + ((u * shrink) * u).sum(1)  # the intercept's share, and the features'
        left_out = targets - (targets - fitted) / np.maximum(1 - leverage, 1e-9)[:, None]
        error = float(np.mean((targets - left_out) ** 2))
        if best is None or error < best[0]:
            best = (error, float(alpha), left_out)
    assert best is not None
    _, alpha, left_out = best
    inverse = s / (s**2 + alpha * len(x))
    return Ridge(vt.T @ (inverse[:, None] * projected), mean, centre, scale, alpha, left_out)


def checked(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Features as float64, labels, and the number of classes.

    Raises:
        UserError: shapes that do not fit, values that are not finite, or fewer than two classes.
    """
    x, y = np.asarray(features, np.float64), np.asarray(labels)
    if x.ndim != 2 or y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise UserError(
            f"features of shape {x.shape} and labels of shape {y.shape} ({y.dtype}) are not "
            "(examples, features) and whole numbers (examples,)"
        )
    if not np.isfinite(x).all():
        raise UserError("features hold values that are not finite")
    if len(np.unique(y)) < 2:
        raise UserError("all examples are of one class: there is nothing to tell apart")
    return x, y, int(y.max()) + 1
