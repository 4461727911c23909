"""The default search on simulated learning curves: regret, cost, claims (docs/search.md: the large table)."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

PATH = Path(__file__).parents[2] / "benchmarks" / "search_validity.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("benchmarks_search_validity", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def tasks(bench, setting, curves, count):
    return [bench.simulate(setting, curves, np.random.default_rng([7, number])) for number in range(count)]


def test_the_simulated_seeds_and_curves_are_what_they_are_said_to_be(bench):
    early = {}
    for curves in bench.CURVES:
        found = tasks(bench, "tuned", curves, 40)
        assert all(task.truth.max() == 0 and 7 <= task.units <= 18 for task in found)
        # running maxima lie a little above the mean and vary a little less
        spread = [task.scores[..., -1].std(1, ddof=1).mean() / task.noise for task in found]
        assert 0.7 < np.mean(spread) < 1.1
        ends = np.concatenate([task.scores[..., -1].mean(1) - task.truth for task in found])
        starts = np.concatenate([task.scores[..., 0].mean(1) - task.truth for task in found])
        assert np.mean(starts) < np.mean(ends) - 5
        early[curves] = np.mean([spearmanr(task.scores[..., 0].mean(1), task.truth)[0] for task in found])
    assert early["parallel"] > 0.8 and early["crossing"] < early["parallel"] - 0.3


def test_the_default_search_finds_the_best_at_a_third_of_the_cost(bench):
    found = bench.study(("bayesian",), 25, 3, {})
    for curves, bound in (("parallel", 0.5), ("crossing", 0.7)):  # .33 and .43 in the large table
        pooled = [each for setting in bench.PROFILES for each in found["bayesian", setting, curves]]
        row = bench.summary(pooled)
        assert row["regret"] < bound and row["cost"] < 0.37, row


def test_halving_gives_up_what_learns_slowly(bench):
    found = [
        [bench.searched(task, method, {})["regret"] for task in tasks(bench, "tuned", "crossing", 20)]
        for method in ("bayesian", "halving")
    ]
    assert np.mean(found[0]) + 0.3 < np.mean(found[1])


def test_what_is_named_with_95_percent_holds(bench):
    found = bench.study(("bayesian", "two_stage"), 25, 5, {}).values()
    claims = [each["regret"] <= 1 for results in found for each in results if each["claimed"]]
    assert len(claims) >= 10  # it does say something
    assert np.mean(claims) >= 0.95


def test_the_benchmark_writes_its_tables(bench, tmp_path, capsys):
    bench.main(["--searches=2", "--methods=two_stage", f"--out={tmp_path / 'found.json'}"])
    assert capsys.readouterr().out.startswith("| method | setting | curves | searches | mean regret |")
    assert "regret > 1" in (tmp_path / "found.json").read_text()
