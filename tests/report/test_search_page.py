"""The page of a search: the answer, the curve with its intervals, what it cost, and the winner's own page."""

import json

import pytest

from tests.report.test_page import Page
from ttl_jax import report
from ttl_jax.cli import main
from ttl_jax.errors import UserError
from ttl_jax.report import search_page

UNITS = {1: 0.71, 2: 0.78, 3: 0.90, 4: 0.88}
WHOLE = (2, 3, 4)


@pytest.fixture
def searched(run, tmp_path):
    """A search of four units, one of them stopped early; unit 3 is chosen."""
    trials, units = [], []
    for unit, score in UNITS.items():
        name, budget = f"trials/unit{unit:02d}_seed0", 1.0 if unit in WHOLE else 0.11
        trials.append({"unit": unit, "seed": 0, "budget": budget, "score": score, "cost": budget,
                       "folder": name})  # fmt: skip
        units.append({"unit": unit, "name": f"stage{unit}", "strategy": f"truncated({unit})",
                      "score": score if unit in WHOLE else None, "params": 1000 * unit,
                      "macs": 10_000 * unit, "price": unit / 4})  # fmt: skip
        if unit in WHOLE:
            place = run(name, strategy=f"truncated({unit})")
            result = json.loads((place / "result.json").read_text())
            result["intervals"] = {"val": {"auprc": [score - 0.03, score + 0.02]}}
            (place / "result.json").write_text(json.dumps(result))
    record = {
        "kind": "ttl", "method": "bayesian", "model": "resnet50", "dataset": "x", "select": "auprc",
        "best": 3, "unit": "stage3", "strategy": "truncated(3)", "score": 0.90, "stages": [2, 4],
        "tolerance": 0.01, "confidence": 0.95, "reason": "the highest expected score", "cost": 3.11,
        "exhaustive_cost": 4, "price": "macs", "weight": 0.0, "front": [2, 3], "units": units,
        "trials": trials,
        "test": {"seeds": 1, "auprc": 0.87, "auroc": 0.9},
    }  # fmt: skip
    (tmp_path / "search.json").write_text(json.dumps(record))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_the_answer_says_what_was_chosen_how_it_does_and_what_finding_it_cost(searched):
    record, folders = report.read_search(searched)
    assert [folder.name for folder in folders] == ["unit03_seed0"]
    assert search_page.headlines(record) == [
        "resnet50 is best cut after unit 3 (stage3): AUPRC 0.870 on the test split, found for 3.11 trainings "
        "instead of 4.",
        "No unit is better by more than 0.01, at 95% confidence.",
    ]
    facts = {name: (value, about) for name, value, about in search_page.variables(record)["facts"]}
    assert facts["Trainings"] == ("3.11", "of 4, one a unit") and facts["Parameters"] == ("3 k", "of 4 k")


def test_whole_trainings_have_intervals_and_those_stopped_early_none(searched):
    record, _ = report.read_search(searched)
    intervals = {trial["unit"]: trial["interval"] for trial in record["trials"]}
    assert intervals[1] is None and intervals[3] == [pytest.approx(0.87), pytest.approx(0.92)]
    bars = "stroke-opacity: 0.5"
    assert search_page.curve(record).count(bars) == len(WHOLE)
    for trial in record["trials"]:
        trial["interval"] = None
    assert bars not in search_page.curve(record)


def test_the_report_command_writes_the_page_of_a_search(searched, capsys):
    assert main(["ttl_jax", "report", str(searched), f"--out={searched}/report.html"]) == 0
    text = (searched / "report.html").read_text()
    page = Page(text)
    assert "How to read it: a dot is a training" in text and "Units that were tried" in text
    assert text.count('class="chosen"') == 1 and 'id="units"' in text
    assert len([row for row, _ in page.all("tr") if row.get("class") == "chosen"]) == 1
    assert len(text) < 5_000_000 and "truncated(3)" in capsys.readouterr().out


def test_a_trial_outside_the_folder_is_not_read(searched):
    record = json.loads((searched / "search.json").read_text())
    record["trials"][1]["folder"] = "../elsewhere"
    (searched / "search.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="leads out of"):
        report.read_search(searched)
