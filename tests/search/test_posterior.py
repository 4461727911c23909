"""The posterior against the general formulas; its probabilities against draws from the prior."""

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from ttl_jax.search import Request
from ttl_jax.search.posterior import LEVEL, SCALES, SHARED, posterior

UNITS = tuple(range(1, 8))
SCORES = {Request(unit, 0.1): 0.6 + 0.02 * unit for unit in UNITS} | {
    Request(3): 0.81, Request(6): 0.84, Request(6, 1.0, 1): 0.83, Request(4): float("nan"),
}  # fmt: skip


def covariance(one, other, scale):
    """Of two observations (points), written out from the module's head."""
    spread, length, noise, crossing = scale
    apart = abs(one.unit - other.unit) / (UNITS[-1] - UNITS[0])
    left = [-math.log(request.budget) / math.log(9) for request in (one, other)]
    found = LEVEL**2 + spread**2 * math.exp(-apart / length)
    found += (SHARED**2 + crossing**2 * math.exp(-(apart**2) / 2)) * min(left)
    if one[0::2] == other[0::2]:  # unit and seed
        found += noise**2 / math.sqrt(one.budget * other.budget) * (1.0 if one == other else 0.5)
    return found


def test_it_is_the_mixture_of_conditioned_gaussians():
    seen = [request for request, score in SCORES.items() if not math.isnan(score)]
    y = np.array([100 * SCORES[request] for request in seen])
    base = y[[request.budget == 1 for request in seen]].mean()
    means, weights = [], []
    for scale in SCALES:
        gram = np.array([[covariance(a, b, scale) for b in seen] for a in seen]) + 1e-6 * np.eye(len(seen))
        # the truth of a unit: an observation at the end of another seed, without its noise
        cross = np.array([[covariance(Request(unit, 1.0, 99), b, scale) for b in seen] for unit in UNITS])
        means.append(base + cross @ np.linalg.solve(gram, y - base))
        weights.append(multivariate_normal(np.zeros(len(y)), gram).logpdf(y - base))
    weights = np.exp(np.array(weights) - max(weights))
    expected = (weights / weights.sum()) @ np.array(means) / 100
    found = posterior(UNITS, SCORES)
    assert list(found.mean().values()) == pytest.approx(expected, abs=2e-4)  # parts below .001 are left out
    assert found.weights.sum() == pytest.approx(1)


def test_gains_and_chances_agree_with_draws():
    found, rng = posterior(UNITS, SCORES), np.random.default_rng(1)
    parts = rng.choice(len(found.weights), 20_000, p=found.weights)
    drawn = np.concatenate([
        rng.multivariate_normal(found.means[part], found.covariances[part], int(count), method="svd")
        for part, count in zip(*np.unique(parts, return_counts=True), strict=True)
    ])  # fmt: skip
    gains = np.maximum(drawn - 100 * found.mean()[6], 0).mean(0) / 100
    assert list(found.gains(6).values()) == pytest.approx(gains, abs=3e-4)
    assert found.within(6) == pytest.approx((drawn.max(1) - drawn[:, 5] <= 1).mean(), abs=0.04)


def test_of_one_part_the_gain_is_the_formula():
    found = posterior(UNITS, SCORES)
    spread = np.sqrt(np.diagonal(found.covariances, axis1=1, axis2=2))
    z = (found.means - 100 * found.mean()[6]) / spread
    expected = found.weights @ (spread * (z * norm.cdf(z) + norm.pdf(z))) / 100
    assert list(found.gains(6).values()) == pytest.approx(expected)


def test_the_scale_is_that_of_the_tolerance():
    scaled = {request: 3 * score for request, score in SCORES.items()}
    one, three = posterior(UNITS, SCORES, 0.01), posterior(UNITS, scaled, 0.03)
    assert three.within(6) == one.within(6)
    assert three.mean()[5] == pytest.approx(3 * one.mean()[5])


def test_a_slow_learner_is_not_believed_to_end_low():
    """One pilot score 15 points below: a rank says lost, the posterior says unknown."""
    scores = {Request(unit, 0.1): 0.7 - 0.025 * unit for unit in UNITS} | {Request(1): 0.85}
    found = posterior(UNITS, scores)
    spread = np.sqrt(found.weights @ np.diagonal(found.covariances, axis1=1, axis2=2)[:, -1])
    assert 100 * (found.mean()[1] - found.mean()[7]) < 2 * spread


@pytest.mark.parametrize(("noise", "crossing"), list(product((0.4, 2.5), (3.0, 36.0))))
def test_chances_hold_on_draws_from_the_prior(noise, crossing):
    """Of the times it says p, p are right: 80 draws of a truth for each scale, three whole trainings."""
    rng, said, right = np.random.default_rng(0), [], []
    scale = (5.0, 0.5, noise, crossing)
    seen = [*(Request(unit, 0.1) for unit in UNITS), *(Request(unit) for unit in (2, 5, 7))]
    everything = [*seen, *(Request(unit, 1.0, 99) for unit in UNITS)]
    gram = np.array([[covariance(a, b, scale) for b in everything] for a in everything])
    end = np.arange(len(seen), len(everything))
    gram[end, end] -= noise**2  # truths carry no noise
    for _ in range(80):
        drawn = rng.multivariate_normal(np.zeros(len(everything)), gram, method="svd")
        found = posterior(UNITS, dict(zip(seen, drawn / 100, strict=False)))
        mean, truth = found.mean(), drawn[len(seen) :]
        best = max((2, 5, 7), key=lambda unit: mean[unit])
        said.append(found.within(best))
        right.append(truth.max() - truth[best - 1] <= 1)
    error = math.sqrt(np.mean(np.array(said) * (1 - np.array(said))) / len(said))
    assert np.mean(right) == pytest.approx(np.mean(said), abs=3 * error + 0.05)
