"""The model between units against the general formulas it is a special case of."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from ttl_jax.search.bridge import beliefs, step_variance

SEEN = {2: 0.61, 5: 0.83, 9: 0.87, 10: 0.85}


def test_the_step_variance_is_the_likeliest():
    places = sorted(SEEN)

    def log_likelihood(variance):
        return sum(
            norm.logpdf(SEEN[b] - SEEN[a], scale=np.sqrt(variance * (b - a)))
            for a, b in zip(places, places[1:], strict=False)
        )

    found = step_variance(SEEN)
    assert log_likelihood(found) > max(log_likelihood(found * 1.01), log_likelihood(found / 1.01))


def test_beliefs_are_a_gaussian_process_with_the_wiener_kernel():
    """Conditioned on all scores; the start of the process is the lowest scored unit."""
    variance, base, xs = step_variance(SEEN), min(SEEN), np.array(sorted(SEEN))[1:]
    ys = np.array([SEEN[x] - SEEN[base] for x in xs])
    gram = np.minimum.outer(xs - base, xs - base)
    found = beliefs(SEEN, range(1, 13))
    assert sorted(found) == [3, 4, 6, 7, 8]
    for unit, belief in found.items():
        cross = np.minimum(unit - base, xs - base)
        mean = SEEN[base] + cross @ np.linalg.solve(gram, ys)
        spread = variance * (unit - base - cross @ np.linalg.solve(gram, cross))
        assert belief.mean == pytest.approx(mean)
        assert belief.deviation == pytest.approx(np.sqrt(spread))


def test_gain_and_chance_are_integrals_over_the_belief():
    best = max(SEEN.values())
    for belief in beliefs(SEEN, range(1, 13)).values():
        density = norm(belief.mean, belief.deviation).pdf
        top = best + 10 * belief.deviation
        assert belief.chance == pytest.approx(quad(density, best, top)[0])
        assert belief.gain == pytest.approx(quad(lambda y: (y - best) * density(y), best, top)[0])  # noqa: B023


def test_equal_scores_leave_no_doubt():
    found = beliefs({1: 0.5, 4: 0.5}, (1, 2, 3, 4))
    assert {unit: belief.chance for unit, belief in found.items()} == {2: 0.0, 3: 0.0}
