"""The comparison's page, tables and words, from cells that are generated with known differences."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from ttl_jax import report
from ttl_jax.cli import main
from ttl_jax.compare import default_config, statistics
from ttl_jax.config import set_fields
from ttl_jax.errors import UserError
from ttl_jax.evaluation import predictions, score
from ttl_jax.report import exports, html
from ttl_jax.report.comparison import comparison_figures, comparison_page
from ttl_jax.report.comparison import text as compared
from ttl_jax.report.read import read_runs
from ttl_jax.report.surest_errors import confident_errors

SIGNALS = {"full": 1.0, "lp_ft": 3.0, "linear_probe": 0.9, "truncated(12)+l2_sp(alpha=0.1)": 0.6}


def make_found(run, tmp_path, datasets=("breast", "ham_10000"), signals=SIGNALS, seeds=(0, 1, 2)):
    """A compare.json over generated runs; `signals` says how good each strategy is."""
    settings = []
    for dataset in datasets:
        for number, (strategy, signal) in enumerate(signals.items()):
            cells = []
            for seed in seeds:
                name = f"{dataset}-{number}-{seed}"
                place = run(name, strategy=strategy, dataset=dataset, seed=seed, signal=signal)
                _same_patients(place, dataset, seed, signal)
                result = json.loads((place / "result.json").read_text())
                cells.append({"fold": None, "folder": name, **result, "steps": 200})
            tests = [cell["test"] for cell in cells]
            settings.append({
                "dataset": dataset, "model": "resnet50", "strategy": strategy, "lr": 1e-3, "folds": 0,
                "lr_at_edge": number == 1, "tuning": [], "note": "",
                "test": {key: {"mean": float(np.mean([t[key] for t in tests])), "low": 0.1, "high": 0.9}
                         for key in ("auroc", "auprc", "prevalence", "accuracy", "ece")},
                "seconds": 60.0 * (number + 1), "flops": 1e12 * (4 - number), "params": 9,
                "trainable_params": 10 ** (number + 3), "cells": cells, "length": 1.0 + number / 4,
                "inference": {"ms": 12.34 - number, "file_bytes": 13_600_000, "flops": 64_000_000,
                              "device": "cpu"},
            })  # fmt: skip
    config = default_config()
    set_fields(config, {"compare.strategies": tuple(signals)})
    return {
        "settings": settings,
        "statistics": statistics.statistics(config, tmp_path, settings),
        "protocol": {"select": "auroc", "replication": "2 training seeds on one fixed split", "folds": 0,
                     "tuned_on": "validation, seed 0"},
    }  # fmt: skip


def _same_patients(place, dataset, seed, signal):
    """Test predictions on one set of patients a data set, whatever the seed and the strategy."""
    shared = np.random.default_rng(len(dataset))
    labels = np.repeat(shared.integers(2, size=100), 2)
    noise = np.random.default_rng(seed + 10).normal(size=200) + np.repeat(shared.normal(size=100), 2)
    logits = np.stack([np.zeros(200), signal * (labels - 0.5) + noise], axis=1)
    path = place / "predictions" / "test.npz"
    predictions.save(
        path,
        ids=[f"<i>{number}" for number in range(200)],
        groups=np.repeat(np.arange(100), 2).astype(str),
        labels=labels,
        logits=logits,
        class_names=("no", "yes"),
        task="multiclass",
        columns={"sex": np.tile(["F", "F", "M", "M"], 50)},
    )
    result = json.loads((place / "result.json").read_text())
    result["test"] = score(labels, logits, ("no", "yes"), "multiclass")
    result["val"]["auroc"] = float(signal)  # validation ranks as we say
    splits = {"train": {"examples": 600, "groups": 300, "classes": {"no": 400, "yes": 200}}}
    result["data"] = {"splits": splits, "straddling": 0}
    (place / "result.json").write_text(json.dumps(result))


@pytest.fixture(scope="module")
def made(run_once):
    folder, run = run_once
    return folder, make_found(run, folder)


@pytest.fixture
def found(made):
    return copy.deepcopy(made[1])


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    return write(made[1], made[0], tmp_path_factory.mktemp("page"))


@pytest.fixture
def few_figures(monkeypatch):
    """Those of one setting alone: drawing all of them is most of a page's time."""
    monkeypatch.setattr(html, "MAX_FIGURE_BYTES", 10)


def test_statistics_find_what_was_put_in(found):
    statistics_found = found["statistics"]
    by_name = {(d["dataset"], d["strategy"]): d for d in statistics_found["differences"]}
    assert len(by_name) == 6 and statistics_found["reference"] == "full"
    assert {each["over"] for each in statistics_found["differences"]} == {"patients"}
    for dataset in ("breast", "ham_10000"):
        good, even = by_name[dataset, "lp_ft"], by_name[dataset, "linear_probe"]
        assert good["low"] > 0.1 and good["p_holm"] < 0.05 and (good["groups"], good["seeds"]) == (100, 3)
        assert good["p_holm"] >= good["p"] and even["estimate"] < 0
    friedman = statistics_found["friedman"]
    assert dict(zip(friedman["strategies"], friedman["ranks"], strict=True)) == {
        "lp_ft": 1.0, "full": 2.0, "linear_probe": 3.0, "truncated(12)+l2_sp(alpha=0.1)": 4.0,
    }  # fmt: skip
    assert statistics_found["bayes"] == statistics_found["pooled"] == []  # two data sets are too few
    decided = {(d["dataset"], d["strategy"]): d for d in statistics_found["decisions"]}
    assert len(decided) == 6 and decided["breast", "lp_ft"]["estimate"] > 0.05


def test_the_metric_is_the_selected_one(made, tmp_path):
    config, settings = default_config(), made[1]["settings"]
    set_fields(config, {"select": "balanced_accuracy"})
    chosen = statistics.statistics(config, made[0], settings)
    assert chosen["metric"] == "balanced_accuracy"
    one, its = ([cell["test"]["balanced_accuracy"] for cell in settings[place]["cells"]] for place in (1, 0))
    assert chosen["differences"][0]["estimate"] == pytest.approx(np.mean(one) - np.mean(its))
    said = compared.headlines({**made[1], "statistics": chosen})
    assert "balanced accuracy points" in said[1]
    for select in ("loss", "ece"):  # low values are good; ECE has a jackknife's test
        set_fields(config, {"select": select})
        chosen = statistics.statistics(config, made[0], settings)
        assert (chosen["metric"], chosen["higher_is_better"]) == (select, False)
        one, its = ([cell["test"][select] for cell in settings[place]["cells"]] for place in (1, 0))
        difference = chosen["differences"][0]
        assert difference["estimate"] == pytest.approx(np.mean(one) - np.mean(its)) and difference["low"]
        mean = {each["strategy"]: 0.0 for each in settings}
        for each in settings:
            mean[each["strategy"]] += np.mean([cell["test"][select] for cell in each["cells"]])
        ranks = dict(zip(chosen["friedman"]["strategies"], chosen["friedman"]["ranks"], strict=True))
        best = min(ranks, key=lambda name: ranks[name])
        assert mean[best] == min(mean.values())


def test_where_low_is_good_the_lowest_is_preferred_and_beats(made):
    config, settings = default_config(), copy.deepcopy(made[1]["settings"])
    set_fields(config, {"select": "loss"})
    for each in settings:
        for cell in each["cells"]:
            cell["val"]["loss"] = cell["test"]["loss"]
    statistics_found = statistics.statistics(config, made[0], settings)
    found = {"settings": settings, "statistics": statistics_found,
             "protocol": {**made[1]["protocol"], "select": "loss"}}  # fmt: skip
    losses = {}
    for each in settings:
        losses.setdefault(each["strategy"], []).extend(cell["test"]["loss"] for cell in each["cells"])
    best = min(losses, key=lambda name: np.mean(losses[name]))
    assert compared.preferred(found) == best
    for difference in statistics_found["differences"]:
        difference |= {"strategy": best, "estimate": -0.2, "p_holm": 0.001}
    found["settings"] = [each for each in settings if each["strategy"] in (best, "full")]
    assert "beats full on 2 of 2" in compared.headlines(found)[0]


def test_what_is_open_says_what_it_needs_and_one_seed_that_it_cannot_be_told(found, tmp_path):
    each = found["statistics"]["differences"][1]
    each |= {"p_holm": 0.3, "needed_seeds": 12, "needed_patients": None}
    first = found["statistics"]["differences"][0]
    assert first["p_holm"] < 0.05 and first["needed_seeds"] is first["needed_patients"] is None
    first |= {"p_holm": None, "caveat": "one seed: says nothing of other seeds"}
    table = compared.comparisons(found)
    assert table[0]["p (Holm)"] == "cannot be told" and len(table) == 6
    assert table[1]["for +2.0 needs"] == "12 seeds"
    said = compared.headlines(found)[1]
    assert said.startswith(
        "On breast, whether lp_ft differs from full cannot be told (one seed: says nothing of other seeds): +"
    )
    assert "beats" not in said and "after Holm" not in said
    assert "; on 1 it cannot be told (p < 0.05" in compared.headlines(found)[0]
    each |= {"strategy": "lp_ft"}
    found["statistics"]["differences"][0] |= {"strategy": "linear_probe"}
    assert compared.headlines(found)[1].endswith(" A true gain of 2.0 points would take 12 seeds.")
    assert "| cannot be told |" in exports.as_markdown(found) and "| 12 seeds |" in exports.as_markdown(found)


def test_the_terminal_says_which_settings_have_warnings(found):
    assert compared.warned(found) == []
    found["settings"][1]["warnings"] = {"one_class_said": 2, "undefined": 3}
    assert compared.warned(found) == [
        "WARNING breast, resnet50, lp_ft: one class said (2 of 3), undefined (3 of 3); "
        "result.json of each cell says what to do"
    ]


def test_comparisons_over_data_sets_stand_beside_those_of_each(found, made, few_figures, tmp_path):
    differences = [
        {**each, "dataset": name} for name in "abc" for each in found["statistics"]["differences"][:3]
    ]
    found["statistics"]["pooled"] = statistics.pool(differences)
    assert [each["sets"] for each in found["statistics"]["pooled"]] == [3, 3, 3]
    assert compared.comparisons(found)[-1]["data set"] == "all 3"
    assert compared.headlines(found)[1].startswith("Over 3 data sets like these: +")
    assert "| 3 data sets | resnet50 | lp_ft | " in exports.as_markdown(found)
    assert exports.as_latex(found).count("\\begin{tabular}") == 2
    assert 'id="pooled"' in write(found, made[0], tmp_path).read_text()


def test_the_headline_says_who_wins_and_how_surely(found):
    said = compared.headlines(found)
    assert said[0] == (
        "lp_ft, preferred on validation, beats full on 2 of 2 test sets "
        "(p < 0.05 after Holm's correction for 6 comparisons)."
    )
    difference = found["statistics"]["differences"][0]
    assert f"On breast, lp_ft beats full: +{100 * difference['estimate']:.1f} AUROC points" in said[1]
    assert re.search(
        r"\[\+[\d.]+, \+[\d.]+\], p(?: = |\u00a0<\u00a0)0\.\d+ after Holm \(AUROC 0\.\d+\)\.$", said[1]
    )


def test_a_preference_that_the_test_does_not_bear_out_is_said(found):
    for each in found["statistics"]["differences"]:
        each |= {"estimate": -0.02, "low": -0.05, "high": 0.01, "p_holm": 0.4}
    said = compared.headlines(found)
    assert "beats full on 0 of 2" in said[0]
    assert "does not differ surely from full: −2.0 AUROC points [−5.0, +1.0], p = 0.40" in said[1]
    for each in found["settings"]:
        for cell in each["cells"]:
            cell["val"]["auroc"] = 1.0 if each["strategy"] == "full" else 0.1
    assert compared.headlines(found) == [
        "Validation prefers full, the reference itself; no other strategy beats it on a test split after "
        "Holm's correction."
    ]
    found["settings"] = [{**each, "cells": []} for each in found["settings"]]
    assert "none can be preferred" in compared.headlines(found)[0]


def test_tables_hold_the_figures(found, tmp_path):
    paths = {path.suffix: path.read_text() for path in report.write_tables(found, tmp_path)}
    rows = list(csv.DictReader(io.StringIO(paths[".csv"])))
    assert len(rows) == 8
    first = found["settings"][0]
    assert float(rows[0]["auroc"]) == first["test"]["auroc"]["mean"] and rows[0]["p"] == ""
    assert (rows[0]["accuracy_low"], rows[0]["params"]) == ("0.1", "9")
    assert rows[1]["edge"] == "True" and float(rows[1]["difference"]) > 0
    lines = paths[".md"].splitlines()
    told = [line for line in lines if line.startswith("- ")]
    assert len(told) == len({each["dataset"] for each in found["settings"]})
    splits = found["settings"][0]["cells"][0]["data"]["splits"]
    assert all(f"{name} {row['examples']} (" in told[0] for name, row in splits.items())
    lines = lines[: lines.index("")]
    assert len(lines) == 10 and len({line.count("|") for line in lines}) == 1
    assert "| 0.001* |" in lines[3]
    for figure in ("auroc", "accuracy", "ece"):
        assert f"| {first['test'][figure]['mean']:.3f} [0.100, 0.900] |" in lines[2]
    assert (
        "| – |  | 12.3 | 13.6 | 64 M | " in lines[2] and "| 0.001 | 1 | 1 min 00 s | 4 T | 1 k |" in lines[2]
    )
    assert (rows[1]["ms"], rows[1]["mb"], rows[1]["flops_image"]) == ("11.34", "13.6", "64000000")
    tex = paths[".tex"]
    assert tex.count(r"\\" + "\n") == 9 and r"ham\_10000" in tex and r"l2\_sp" in tex
    for line in tex.splitlines()[4:-2]:
        assert len(re.findall(r"(?<!\\)&", line)) == 17


def test_the_front_holds_what_nothing_beats():
    points = [(3.0, 0.9), (1.0, 0.7), (2.0, 0.6), (4.0, 0.9), (2.5, 0.8), (1.0, 0.65)]
    front = comparison_figures.pareto_front(points)
    assert front == (1, 4, 0)
    for place, (cost, value) in enumerate(points):
        beaten = any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
        assert beaten == (place not in front)


def test_a_comparison_made_before_a_cost_was_known_has_a_dash(found, made, few_figures, tmp_path):
    for each in found["settings"]:
        del each["inference"], each["length"]
    first = compared.lines(found)[0]
    assert (first.ms, first.flops_image, first.length) == (None, None, 1.0)
    assert first.mb == 4 * 9 / 1e6  # four bytes a parameter
    paths = {path.suffix: path.read_text() for path in report.write_tables(found, tmp_path)}
    assert "| – | 3.6e-05 | – | " in paths[".md"].splitlines()[2] and "length" not in paths[".md"]
    for key in ("decisions", "pooled", "gain", "moderated"):
        del found["statistics"][key]
    found["statistics"]["resamples"] = 2000
    text = write(found, made[0], tmp_path).read_text()
    assert "intervals were too narrow" in text and "Decisions against full" in text
    assert 'id="cost-mb"' in text and 'id="cost-ms"' not in text and "length of training" not in text
    for each in found["settings"]:
        each |= {"params": None}
    assert compared.lines(found)[0].mb is None


def test_folds_with_a_test_set_each_are_the_replicates_and_one_test_set_is_resampled():
    random = np.random.default_rng(0)

    def cell(fold, auroc):
        splits = {"test": {"examples": 40}, "train": {"examples": 8}}  # of 120, by a train_limit
        return {"seed": 0, "fold": fold, "test": {"auroc": auroc}, "data": {"splits": splits}}

    def held(ids):
        labels = np.tile([0, 1], 20)
        logits = random.normal(size=(40, 2))
        return predictions.Predictions(ids, ids, labels, logits, ("a", "b"), "multiclass")

    mine, theirs = ([cell(fold, auroc + 0.01 * fold**power) for fold in range(5)]
                    for auroc, power in ((0.75, 1), (0.7, 2)))  # fmt: skip
    gains = [0.05 + 0.01 * (fold - fold**2) for fold in range(5)]
    apart = [np.arange(40).astype(str) + f"in {fold}" for fold in range(5)]
    for ids, over in ((apart, "folds"), (apart[:1] * 5, "patients")):
        pairs = {(0, fold): (held(ids[fold]), held(ids[fold])) for fold in range(5)}
        match = statistics.Match({}, pairs, mine, theirs, folds=5)
        difference, said = statistics._difference(match, "auroc")
        assert said == over
        if over == "folds":  # Nadeau and Bengio: 1/5 for the folds, 40/120 for the training sets they share
            t = np.mean(gains) / np.sqrt((1 / 5 + 40 / 120) * np.var(gains, ddof=1))
            assert difference.estimate == pytest.approx(np.mean(gains))
            assert difference.p == pytest.approx(2 * stats.t.sf(abs(t), 4))


def test_what_the_differences_are_over_is_said_as_it_was_found(found, made, tmp_path):
    assert comparison_page.difference_over(found) == {"patients"}
    found["statistics"]["differences"][0]["over"] = "folds"
    assert comparison_page.difference_over(found) == {"patients", "folds"}
    for each in found["statistics"]["differences"]:
        del each["over"]
    assert comparison_page.difference_over(found) == {"patients"}
    found["protocol"]["folds"] = 5
    assert comparison_page.difference_over(found) == {"folds"}


def test_what_the_intervals_are_over_is_said_as_they_were_found(found):
    interval_over = comparison_page.interval_over
    assert interval_over(found) == "Student's over seeds"  # an older compare.json does not say it
    for each in found["settings"]:
        each["test"]["auroc"]["over"] = "patients"
    assert interval_over(found) == "over patients and seeds (ECE: over seeds alone)"
    found["protocol"]["folds"] = 5
    found["settings"][0]["test"]["auroc"]["over"] = "folds"
    assert interval_over(found).startswith("Student's over folds, or, on other data sets, over pat")


def test_the_cost_that_differs_is_shown_first(found):
    rows = compared.lines(found)
    assert comparison_figures.costs_to_choose(rows) == (
        "ms", "seconds", "flops", "trainable", "mb", "flops_image",
    )  # fmt: skip


def test_latex_holds_together(found):
    found["settings"][0] |= {"dataset": "50% of a&b_{c}~^#$\\"}
    found["statistics"]["differences"][0]["p_holm"] = 1e-5
    text = exports.as_latex(found)
    bare = re.sub(r"\\[&%$#_{}]|\\text[a-z]+\{\}", "", text)
    assert bare.count("$") % 2 == 0 and "$<$ 0.001" in bare and not set("#%~^_") & set(bare)
    assert bare.count("{") == bare.count("}") and "50\\% of a\\&b\\_\\{c\\}" in text
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 1
    assert text.isascii()


def test_the_surest_errors_are_listed_by_name():
    labels = np.array([0, 1, 1, 0])
    logits = np.array([[0.0, 2.0], [5.0, 0.0], [0.0, 9.0], [1.0, 0.0]])
    held = predictions.Predictions(np.array(list("abcd")), np.array(list("pqrs")), labels, logits,
                                   ("no", "yes"), "multiclass")  # fmt: skip
    errors = confident_errors(held)
    assert [(e.id, e.group, e.true, e.decided) for e in errors] == [
        ("b", "q", "yes", "no"),
        ("a", "p", "no", "yes"),
    ]
    assert errors[1].confidence == pytest.approx(1 / (1 + np.exp(-2.0)))
    several = predictions.Predictions(
        ids=np.array(list("ab")),
        groups=np.array(list("pq")),
        labels=np.array([[1.0, np.nan], [0, 1]]),
        logits=np.array([[-3.0, 5.0], [-1.0, -2.0]]),
        class_names=("x", "y"),
        task="multilabel",
    )
    assert [(e.id, e.true, e.decided) for e in confident_errors(several)] == [
        ("a", "x", "no x"),
        ("b", "y", "no y"),
    ]


def write(found, folder, tmp_path):
    folders = [folder / cell["folder"] for each in found["settings"] for cell in each["cells"]]
    path = report.write(folders, tmp_path / "out" / "report.html", "Comparison", comparison=found)
    assert path.stat().st_size < 5_000_000
    return path


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_in_a_browser_it_sorts_filters_and_says_no_error(page, found, tmp_path):
    probe = """<script>
      const at = (selector) => document.querySelector(selector);
      const names = () => [...at("#comparison-table").tBodies[0].rows].filter((row) => !row.hidden)
        .map((row) => row.cells[0].dataset.value);
      const said = {};
      [...at("#comparison-table").tHead.rows[0].cells].find((cell) => cell.textContent === "AUROC")
        .querySelector("button").click();
      said.sorted = names();
      const field = at("#comparison .filter input");
      field.value = "ham lp_ft"; field.dispatchEvent(new Event("input"));
      said.filtered = names(); said.count = at("#comparison .filter output").textContent;
      said.errors = window.faults; said.svgs = document.querySelectorAll("#comparison svg").length;
      const shown = () => [...document.querySelectorAll(".choice figure")]
        .filter((each) => each.offsetParent).map((each) => each.parentElement.className.split("-").pop());
      said.shown = { before: shown() };
      at("#cost-mb").click();
      said.shown.after = shown();
      said.tables = [...document.querySelectorAll("#comparison table")].map((table) => table.id);
      said.reached = [...document.querySelectorAll(".scroll, th button, summary, a, input")]
        .every((each) => each.tabIndex >= 0);
      said.wide = document.documentElement.scrollWidth <= window.innerWidth;
      const out = document.createElement("pre"); out.id = "said"; out.textContent = JSON.stringify(said);
      document.body.append(out);
    </script></body>"""
    text = page.read_text().replace(
        "<head>", "<head><script>window.faults=[];onerror=(m)=>faults.push(m)</script>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", probe))
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--no-first-run", f"--user-data-dir={tmp_path}/profile",
         "--window-size=1280,900", "--dump-dom", f"file://{probed}"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    said = json.loads(re.search(r'<pre id="said">(.*?)</pre>', done.stdout)[1])
    aurocs = {
        (each["dataset"], each["strategy"]): each["test"]["auroc"]["mean"] for each in found["settings"]
    }
    assert said["sorted"] == [name for _, name in sorted(aurocs, key=lambda key: -aurocs[key])]
    assert said["filtered"] == ["lp_ft"] and said["count"] == "1 of 8"
    assert said["errors"] == [] and said["wide"]
    assert said["svgs"] == 1 + 2 * 6 and said["shown"] == {"before": ["ms", "ms"], "after": ["mb", "mb"]}
    assert said["tables"] == ["comparison-table", "mcnemar", "trust"] and said["reached"]
    assert "Uncaught" not in done.stderr


def test_the_page_has_the_comparison_the_data_and_no_markup_from_names(found, made, page):
    text = page.read_text()
    assert "lp_ft, preferred on validation, beats full on 2 of 2 test sets" in text
    assert 'id="comparison-table"' in text and "Critical-difference diagram" in text
    assert text.count('aria-label="AUROC against MB on disk on') == 2 and "mathdefault" not in text
    assert "length of training" in text and "median time on cpu" in text
    assert "for other patients and other seeds, each with Student&#39;s" in text.replace("'", "&#39;")
    assert "No group stands in more than one split." in text and "edge of the grid" in text
    for kind in ("subgroups", "thresholds", "calibration"):
        assert text.count(f'class="sortable {kind}"') == 8
    assert text.count("Decision curves: net benefit") == 8 and "Decisions against full" in text
    held = predictions.load(made[0] / found["settings"][0]["cells"][0]["folder"] / "predictions" / "test.npz")
    women = held.columns["sex"] == "F"
    odds = held.logits[:, 1] - held.logits[:, 0]
    assert f"{roc_auc_score(held.labels[women], odds[women]):.3f}" in text.split("<h3>Subgroups</h3>")[1]
    assert "&lt;i&gt;" in text and "<i>" not in text  # ids of the surest errors are text


def test_a_cell_that_a_spreadsheet_would_run_is_text(found):
    found["settings"][0] |= {"note": '=HYPERLINK("x")', "dataset": "@set"}
    table = list(csv.DictReader(io.StringIO(exports.as_csv(compared.lines(found)))))
    assert table[0]["note"] == '\'=HYPERLINK("x")' and table[0]["dataset"] == "'@set"
    assert float(table[1]["difference"]) == found["statistics"]["differences"][0]["estimate"]


def test_drawings_of_a_work_folder_are_images_that_run_nothing(found, made, few_figures, tmp_path):
    found["pictures"] = [
        {"strategy": "full", "model": "resnet50", "svg": "<svg><script>alert(1)</script></svg>"}
    ]
    text = write(found, made[0], tmp_path).read_text()
    assert "alert(1)" not in text and '<img class="drawn" src="data:image/svg+xml;base64,' in text
    (tmp_path / "compare.json").write_text(json.dumps(found | {"pictures": [{"path": "../x.svg"}]}))
    with pytest.raises(UserError, match="leads out of"):
        report.read_comparison(tmp_path)


def test_the_picture_beside_the_answer_has_every_difference(found):
    rows = compared.lines(found)
    lead = comparison_page._lead(found, rows)
    assert lead.svg.count("lp_ft, breast") == lead.svg.count("lp_ft, ham_10000") == 1
    assert comparison_page._lead(found, rows[:1]) is None  # the reference alone
    found["statistics"]["pooled"] = [
        {"strategy": "lp_ft", "estimate": 0.02, "low": 0.01, "high": 0.03, "p_holm": 0.01}
    ]
    lead = comparison_page._lead(found, rows)
    assert "lp_ft, breast" not in lead.svg and lead.caption.endswith("Over all data sets together.")


def test_the_figures_are_files_that_stand_alone(found, made):
    files = report.figure_files(found)
    sets = ("breast", "ham_10000")
    costs = [cost for cost in comparison_figures.COSTS if f"{cost}_breast" in files]
    named = {"critical_difference", *(f"{kind}_{name}" for kind in ("differences", *costs) for name in sets)}
    assert len(costs) >= 5 and named <= set(files) <= named | {"differences"}
    for name, svg in files.items():
        texts = "".join(ElementTree.fromstring(svg).itertext())  # well-formed, with its namespace
        assert (
            "var(--" not in svg and "#1b1f24" in svg and re.match(r'<svg [^>]*width="\d+" height="\d+"', svg)
        )
        if name.startswith("differences_"):
            assert name.removeprefix("differences_") in texts
            assert all(strategy in texts for strategy in SIGNALS if strategy != "full")
    one = dict(zip(sets, (files[f"differences_{name}"] for name in sets), strict=True))
    assert one["breast"] != one["ham_10000"]


@pytest.mark.parametrize(
    ("count", "shown"), [(3, [1, 2, 3]), (10, [*range(1, 11)]), (20, [*range(1, 21, 2)])]
)
def test_ranks_on_the_line_are_evenly_apart(count, shown):
    friedman = {"strategies": [f"s{number}" for number in range(count)], "critical_difference": 1.5,
                "ranks": [number + 1.25 for number in range(count)]}  # fmt: skip
    texts = re.findall(r">(\d+)</text>", comparison_figures.critical_difference(friedman))
    assert [int(text) for text in texts] == shown


def test_a_page_stays_below_five_megabytes():
    budgets = (html.MAX_FIGURE_BYTES, html.MAX_IMAGE_BYTES, comparison_page.MAX_PICTURE_BYTES)
    assert sum(budgets) <= 3_500_000  # tables of many cells take a third more


def test_what_does_not_fit_is_named(found, made, few_figures, tmp_path, monkeypatch):
    picture = '<svg width="1" height="1" viewBox="0 0 9 9"><text>plan</text></svg>'
    found["pictures"] = [
        {"strategy": name, "model": "resnet50", "svg": picture} for name in ("full", "lp_ft")
    ]
    monkeypatch.setattr(comparison_page, "MAX_PICTURE_BYTES", 300)
    text = write(found, made[0], tmp_path).read_text()
    assert text.count('<section class="setting"') == 1 and text.count('<figure class="plan">') == 1
    assert "Figures of 1 settings are shown" in text
    assert "not shown: lp_ft; see figures/strategies" in text


def test_runs_of_one_command_share_it_and_have_names_of_their_own(run, tmp_path):
    places = [run(f"lp_ft/seed{seed}", strategy="lp_ft", seed=seed) for seed in (0, 1)]
    places.append(run("full/seed0", strategy="full"))
    runs = read_runs(places)
    names = html._run_names(runs)
    assert names == ["lp_ft/seed0", "lp_ft/seed1", "full/seed0"]
    assert [found for _, found in html._origins(runs, names)] == [names[:2], names[2:]]
    assert html._run_names(runs[:1]) == ["seed0"]


def test_every_data_set_has_its_turn_where_not_all_fit(found, made, monkeypatch):
    folders = [made[0] / cell["folder"] for each in found["settings"] for cell in each["cells"]]
    rows = report.rows(folders, intervals=False)
    assert [row.dataset for row in rows] == ["breast"] * 4 + ["ham_10000"] * 4
    assert [row.strategy for row in rows if row.chosen] == ["lp_ft", "lp_ft"]
    assert html._most_wanted(rows) == [1, 5, 0, 4, 2, 6, 3, 7]


def test_the_report_command_takes_a_comparison_s_folder(found, made, tmp_path, capsys):
    folder = made[0]
    (folder / "compare.json").write_text(json.dumps(found))
    assert main(["ttl_jax", "report", str(folder), f"--out={tmp_path}/again.html"]) == 0
    assert 'id="comparison-table"' in (tmp_path / "again.html").read_text()
    (tmp_path / "compare.json").write_text("{")
    assert main(["ttl_jax", "report", str(tmp_path)]) == 2
    assert "run compare again" in capsys.readouterr().err
