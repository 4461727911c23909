"""Transferability of fixed features, estimated without training: LogME, H-score, LEEP, ridge probe."""

from __future__ import annotations

import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.ridge import Ridge, checked, ridge_probe
from ttl_jax.typing import Float, Int

__all__ = ["Ridge", "h_score", "leep", "logme", "ridge_probe"]

Features = Float[np.ndarray, "examples features"]
Labels = Int[np.ndarray, " examples"]


def logme(features: Features, labels: Labels) -> float:
    """Log of maximum evidence per example (You et al. 2021, arXiv:2102.11005; fixed point of the
    journal version, arXiv:2110.10545), the mean over classes.

    For each class the targets 0 and 1 are normal around a linear function of the features with
    precision beta, whose weights are normal with precision alpha; both are chosen to maximise the
    evidence. Higher is better.

    Args, raises: as `ridge_probe`.
    """
    x, y, classes = checked(features, labels)
    n, d = x.shape
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    squares = s**2
    evidence = []
    for number in range(classes):
        target = (y == number).astype(float)
        along = (u.T @ target) ** 2
        rest = max(float(target @ target - along.sum()), 0.0)  # what no direction reaches
        alpha = beta = 1.0
        for _ in range(200):
            ratio = alpha / beta
            gamma = (squares / (squares + ratio)).sum()
            length = (squares * along / (squares + ratio) ** 2).sum()  # ||m||^2
            residual = (along * (ratio / (squares + ratio)) ** 2).sum() + rest
            alpha = gamma / max(length, 1e-12)
            beta = (n - gamma) / max(residual, 1e-12)
            if abs(alpha / beta - ratio) <= 1e-6 * ratio:
                break
        evidence.append(_log_evidence(alpha, beta, n, d, squares, along, rest) / n)
    return float(np.mean(evidence))


def _log_evidence(
    alpha: float, beta: float, n: int, d: int, squares: np.ndarray, along: np.ndarray, rest: float
) -> float:
    """Equation 2 of the LogME paper in the basis of the singular vectors."""
    ratio = alpha / beta
    length = (squares * along / (squares + ratio) ** 2).sum()
    residual = (along * (ratio / (squares + ratio)) ** 2).sum() + rest
    determinant = np.log(alpha + beta * squares).sum() + (d - len(squares)) * np.log(alpha)
    return float(
        n / 2 * np.log(beta) + d / 2 * np.log(alpha) - n / 2 * np.log(2 * np.pi)
        - beta / 2 * residual - alpha / 2 * length - determinant / 2
    )  # fmt: skip


def h_score(features: Features, labels: Labels, *, shrink: bool = True) -> float:
    """H-score (Bao et al. 2019): tr(cov(f)^-1 cov(E[f | y])); at most classes - 1, higher is better.

    Args:
        features, labels: Features and class numbers, as for `ridge_probe`.
        shrink: Use Ledoit and Wolf's estimate of cov(f), with the numerator shrunk alike (Ibrahim et al.
            2021, arXiv:2110.06893). Needed if examples are not many times the features.

    Raises:
        UserError: as `ridge_probe`.
    """
    x, y, classes = checked(features, labels)
    x = x - x.mean(0)
    means = np.stack(
        [x[y == number].mean(0) if (y == number).any() else 0 * x[0] for number in range(classes)]
    )
    between = means * np.sqrt(np.bincount(y, minlength=classes) / len(x))[:, None]  # cov = between' between
    if shrink:
        from sklearn.covariance import ledoit_wolf

        covariance, share = ledoit_wolf(x, assume_centered=True)
        return float((1 - share) * np.trace(between @ np.linalg.solve(covariance, between.T)))
    return float(np.trace(between @ np.linalg.pinv(x.T @ x / len(x)) @ between.T))


def leep(source: Float[np.ndarray, "examples source_classes"], labels: Labels) -> float:
    """LEEP (Nguyen et al. 2020, arXiv:2002.12462): mean log likelihood of the labels under the
    empirical predictor P(y | x) = sum over z of P(y | z) theta(x)_z.

    Args:
        source: Probabilities of the source task's classes (n, source classes); rows sum to 1.
        labels: Class numbers from 0, (n,).

    Raises:
        UserError: shapes that do not fit, or rows that are no probabilities.
    """
    theta, y, classes = checked(source, labels)
    if theta.min() < 0 or not np.allclose(theta.sum(1), 1, atol=1e-3):
        raise UserError("LEEP takes probabilities: each row must sum to 1")
    joint = np.stack([theta[y == number].sum(0) for number in range(classes)]) / len(y)  # P(y, z)
    given = joint / np.maximum(joint.sum(0), 1e-300)
    return float(np.mean(np.log(np.maximum((theta * given[y]).sum(1), 1e-300))))
