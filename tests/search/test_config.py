"""The defaults of a search are those that docs/search.md was measured with."""

import pytest

from ttl_jax.search.config import search_config


def test_the_defaults_are_those_of_the_measured_search():
    found = search_config().search
    assert (found.method, found.finalists, found.allowance, found.pilot) == ("bayesian", 3, 0.31, 0.05)
    assert (found.confidence, found.tolerance, found.eta, found.seeds) == (0.95, 0.01, 2.0, 1)
    assert found.rungs == pytest.approx((1 / 27, 1 / 9, 1 / 3, 1))
