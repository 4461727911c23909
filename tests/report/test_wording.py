from __future__ import annotations

import pytest

from ttl_jax.report import wording
from ttl_jax.report.rows import Value


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (999, "999"), (4098, "4.1 k"), (23_512_130, "23.5 M"),
     (999_800, "1 M"), (999_400, "999 k"), (4.87e10, "48.7 G"), (123_456, "123 k")],
)  # fmt: skip
def test_amounts(value, text):
    assert wording.amount(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.04, "0.0 s"), (48.24, "48.2 s"), (812, "13 min 32 s"), (3599.6, "1 h 00 min"),
     (7500, "2 h 05 min")],
)  # fmt: skip
def test_durations(seconds, text):
    assert wording.duration(seconds) == text


def test_metrics():
    assert wording.metric(None) == "–"
    assert wording.metric(Value(0.91249, 1)) == "0.912"
    assert wording.metric(Value(0.9, 3, sd=0.0126)) == "0.900 ± 0.013"
    assert wording.interval(Value(0.9, 1, low=0.8812, high=0.9401)) == "0.881 to 0.940"
    assert wording.interval(Value(0.9, 1)) is None
