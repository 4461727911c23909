from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ttl_jax.evaluation import mean_interval


def test_students_interval():
    values = [0.91, 0.93, 0.88, 0.95]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    bounded = mean_interval([0.99, 0.9, 0.7], bounds=(0.0, 1.0))
    assert bounded.high == 1.0 and 0.0 < bounded.low < bounded.mean
    one = mean_interval([0.9])
    assert (one.mean, one.low, one.high, one.n) == (0.9, None, None, 1)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
