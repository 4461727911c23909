"""Decisions between strategies and the trust table, against counts and figures worked out apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from ttl_jax.compare.statistics import inferences
from ttl_jax.evaluation import brier_parts, calibration, fit_temperature, paired_components
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.report.comparison.decisions import decision_tests, trusts


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
    assert (test.only_it, test.only_reference) == (12, 3)
    assert test.mcnemar == pytest.approx((binomtest(3, 15).pvalue,)) and test.p is None  # nothing claimed


def test_seeds_that_disagree_are_no_difference():
    """Twice the median of the seeds' p-values called this a difference (p = 2e-5): it has no direction."""
    held, right = {}, {"full": [], "a": []}
    for seed, counts in enumerate([(20, 0), (0, 20), (19, 1)]):
        full, other = rights(*counts, both=10)
        held |= {f"full{seed}": made(full), f"a{seed}": made(other)}
        right["full"].append(full), right["a"].append(other)
    shown = found({"full": [0, 1, 2], "a": [0, 1, 2]})
    first = held["full0"]
    logits = ([held[f"{name}{seed}"].logits for seed in range(3)] for name in ("a", "full"))
    parts = paired_components(first.labels, *logits, first.groups, "accuracy")
    (about,) = inferences([parts])
    shown["statistics"]["decisions"] = [{"dataset": "d", "model": "m", "strategy": "a"} | about]
    (test,) = decision_tests(shown, lambda place, split: held[place])
    assert max(test.mcnemar) < 1e-3 and test.p > 0.5 and test.low < 0 < test.high
    mean = np.mean([a.mean() - b.mean() for a, b in zip(right["a"], right["full"], strict=True)])
    assert test.difference == pytest.approx(mean) and test.only_it == pytest.approx(13)


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
