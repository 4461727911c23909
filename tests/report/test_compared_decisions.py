"""McNemar between strategies and the trust table, against counts and figures worked out apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from ttl_jax.evaluation import brier_parts, calibration, fit_temperature
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.report.compared_decisions import decision_tests, trusts, twice_the_median


def made(right, groups=None):
    """Test predictions whose decisions are right where `right` says so."""
    labels = np.arange(len(right)) % 2
    said = np.where(right, labels, 1 - labels)
    logits = np.stack([np.zeros(len(right)), 2.0 * said - 1.0 + 0.1 * np.arange(len(right)) / 9], axis=1)
    ids = np.arange(len(right)).astype(str)
    return Predictions(ids, ids if groups is None else groups, labels, logits, ("no", "yes"), "multiclass")


def found(folders):
    settings = [
        {"dataset": "d", "model": "m", "strategy": name,
         "cells": [{"seed": seed, "fold": None, "folder": f"{name}{seed}"} for seed in seeds]}
        for name, seeds in folders.items()
    ]  # fmt: skip
    return {"settings": settings, "statistics": {"reference": "full"}}


def rights(only_it, only_full, both=10):
    """Who has which example right: (full, the other)."""
    full = np.array([True] * both + [True] * only_full + [False] * only_it)
    other = np.array([True] * both + [False] * only_full + [True] * only_it)
    return full, other


def test_mcnemar_counts_the_examples_that_one_alone_has_right():
    full, other = rights(only_it=12, only_full=3)
    held = {"full0": made(full), "lp0": made(other)}
    (test,) = decision_tests(found({"full": [0], "lp": [0, 1]}), lambda place, split: held[place])
    assert (test.only_it, test.only_reference, test.seeds, test.p_patients) == (12, 3, 1, None)
    assert test.p == pytest.approx(binomtest(3, 15).pvalue) and test.p_holm == test.p


def test_seeds_count_by_twice_their_median_and_strategies_by_holm():
    held = {}
    for seed, counts in enumerate([(12, 3), (8, 8), (9, 4)]):
        full, other = rights(*counts, both=30 - sum(counts))
        held |= {f"full{seed}": made(full), f"a{seed}": made(other), f"b{seed}": made(full)}
    shown = found({"full": [0, 1, 2], "a": [0, 1, 2], "b": [0, 1, 2]})
    a, b = decision_tests(shown, lambda place, split: held[place])
    assert a.p == pytest.approx(min(1, 2 * binomtest(4, 13).pvalue)) and a.only_it == pytest.approx(29 / 3)
    assert b.p == 1.0 and a.p_holm == pytest.approx(min(1, 2 * a.p))
    assert twice_the_median([0.01, 0.02, 0.9]) == 0.04 and twice_the_median([0.3]) == 0.3


def test_images_of_one_patient_are_exchanged_together():
    full, other = rights(only_it=8, only_full=0)
    patients = np.array(["p"] * 10 + ["q"] * 8)  # all that differs is one patient's
    held = {"full0": made(full, patients), "lp0": made(other, patients)}
    (test,) = decision_tests(found({"full": [0], "lp": [0]}), lambda place, split: held[place])
    assert test.p < 0.01 and test.p_patients == 1.0 and test.p_holm == 1.0


def test_what_cannot_be_compared_is_left_out():
    full, other = rights(2, 1)
    shown = found({"full": [0], "lp": [0]})
    assert decision_tests(shown, lambda place, split: None) == ()
    assert decision_tests(found({"full": [0], "lp": [1]}), lambda place, split: made(full)) == ()


def test_the_trust_table_fits_on_validation_and_means_over_cells():
    def drawn(seed):
        labels = np.random.default_rng(seed).integers(2, size=80)
        logits = np.random.default_rng(seed + 50).normal(size=(80, 2)) * 3
        logits[np.arange(80), labels] += 2
        ids = np.arange(80).astype(str)
        return Predictions(ids, ids, labels, logits, ("no", "yes"), "multiclass")

    held = {
        (f"full{seed}", split): drawn(10 * seed + len(split)) for seed in (0, 1) for split in ("val", "test")
    }
    (row,) = trusts(found({"full": [0, 1]}), lambda *place: held[place])
    eces, after, hit = [], [], []
    for seed in (0, 1):
        val, test = held[f"full{seed}", "val"], held[f"full{seed}", "test"]
        temperature = fit_temperature(val.labels, val.logits)
        eces.append(calibration(test.labels, test.logits).ece)
        after.append(calibration(test.labels, test.logits / temperature).ece)
        negatives = np.sort((val.logits[:, 1] - val.logits[:, 0])[val.labels == 0])
        above = negatives[int(np.ceil(0.9 * len(negatives))) - 1]
        scores = val.logits[:, 1] - val.logits[:, 0]
        at = scores[scores > above].min()
        hit.append(((test.logits[:, 1] - test.logits[:, 0]) >= at)[test.labels == 1].mean())
    assert row.ece.mean == pytest.approx(np.mean(eces)) and row.ece.sd == pytest.approx(np.std(eces, ddof=1))
    assert row.ece_after.mean == pytest.approx(np.mean(after)) and row.sensitivity.mean == pytest.approx(
        np.mean(hit)
    )
    parts = [
        brier_parts(held[f"full{seed}", "test"].labels, held[f"full{seed}", "test"].logits) for seed in (0, 1)
    ]
    assert row.reliability.mean == pytest.approx(np.mean([each.reliability for each in parts]))
