"""A family of comparisons: Holm, what is not told, what is needed, moderation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ttl_jax.compare.statistics import inferences, pool
from ttl_jax.evaluation import Component, Components, fold_difference, holm, moderated

OPEN = Components(0.01, Component(2e-5, 90.0), 4e-4, 4, 5, 100)
SURE = replace(OPEN, estimate=0.2)
ONE_SEED = Components(0.2, Component(2e-5, 90.0), np.nan, 0, 1, 100)


def test_holm_counts_what_cannot_be_told_but_claims_nothing_of_it():
    folds = fold_difference([0.02, 0.03, 0.05], 0.5, groups=90, seeds=1)
    found = inferences([SURE, OPEN, ONE_SEED, folds])
    ps = [each["p"] for each in found]
    assert ps[2] < 1e-6 and found[2]["p_holm"] is None and "one seed" in found[2]["caveat"]
    expected = holm([ps[0], ps[1], 1.0, ps[3]])
    assert [each["p_holm"] for each in found] == pytest.approx([expected[0], expected[1], None, expected[3]])


def test_only_what_is_open_says_what_it_needs():
    sure, left_open, one = inferences([SURE, OPEN, ONE_SEED], gain=0.02)
    assert sure["needed_seeds"] is sure["needed_patients"] is None and sure["p_holm"] < 0.05
    assert left_open["needed_seeds"] > 5 and left_open["needed_patients"] is None
    assert one["needed_seeds"] is one["needed_patients"] is None
    assert inferences([OPEN], gain=0.02)[0]["needed_seeds"] < left_open["needed_seeds"]  # no Holm


def test_moderated_comparisons_are_those_of_the_moderated_components():
    random = np.random.default_rng(0)
    found = [replace(OPEN, seed_variance=4e-4 * float(random.chisquare(4)) / 4) for _ in range(12)]
    own, borrowed = inferences(found), inferences(found, moderate=True)
    assert own != borrowed and [each["p"] for each in borrowed] == [
        each["p"] for each in inferences(moderated(found))
    ]
    weights = [each["variance_moderated"] for each in own]
    assert (
        weights
        == [each["variance_moderated"] for each in borrowed]
        == [each["variance"] for each in borrowed]
    )


def test_data_sets_without_a_variance_are_left_out_of_the_pool():
    about = {"model": "m", "strategy": "a", "estimate": 0.02, "variance_moderated": 1e-4}
    found = [{**about, "dataset": name, "estimate": 0.01 * place} for place, name in enumerate("abcd")]
    (whole,) = pool(found)
    assert whole["sets"] == 4 and whole["estimate"] == pytest.approx(0.015) and whole["p_holm"] == whole["p"]
    found[3]["variance_moderated"] = None
    assert pool(found)[0]["sets"] == 3 and pool(found)[0]["estimate"] == pytest.approx(0.01)
    found[2]["variance_moderated"] = 0.0
    assert pool(found) == []
