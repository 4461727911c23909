"""A metric of one's own, one entry in one file, is in every result: docs/metrics.md's example."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import multilabel_confusion_matrix

from ttl_jax import registry, report
from ttl_jax.analysis.methods_table import table
from ttl_jax.cli import main
from ttl_jax.config import set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.evaluation import influence, jackknife, score, score_interval
from ttl_jax.report.search_text import sentence
from ttl_jax.search.config import search_config
from ttl_jax.search.search import search

ROOT = Path(__file__).parents[1]
NAME, TITLE = "specificity_macro", "macro specificity"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    text = (ROOT / "docs" / "metrics.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(example.splitlines()) <= 20
    path = tmp_path_factory.mktemp("own") / "my_metrics.py"
    path.write_text(example)
    return path


@pytest.fixture
def registered(file):
    exec(compile(file.read_text(), str(file), "exec"), {"__name__": "my_metrics"})
    yield
    registry._ENTRIES["metric"].pop(NAME)


def specificity(truth, decided):
    """scikit-learn's counts; the mean over the classes that somebody is not of."""
    tables = multilabel_confusion_matrix(truth, decided)
    negatives = tables[:, 0].sum(axis=1)
    return float(np.mean(tables[negatives > 0, 0, 0] / negatives[negatives > 0]))


@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_scikit_learns(registered, classes):
    random = np.random.default_rng(classes)
    labels = random.integers(classes, size=120)
    logits = random.normal(size=(120, classes)) + np.eye(classes)[labels]
    found = score(labels, logits, "abcd"[:classes], "multiclass")
    assert found[NAME] == pytest.approx(specificity(labels, logits.argmax(axis=1)))
    several = (random.random((120, classes)) < 0.3).astype(float)
    found = score(several, logits, "abcd"[:classes], "multilabel")
    assert found[NAME] == pytest.approx(specificity(several.astype(int), (logits >= 0).astype(int)))


def test_its_interval_and_influences_follow_from_its_function(registered):
    random = np.random.default_rng(0)
    labels, groups = random.integers(2, size=160), np.arange(160) // 2
    logits = random.normal(size=(2, 160, 2)) + np.eye(2)[labels]
    # of two classes it is the balanced accuracy
    for each in (influence, jackknife):
        mine, other = (each(labels, logits, groups, name) for name in (NAME, "balanced_accuracy"))
        np.testing.assert_allclose(mine.values, other.values)
        np.testing.assert_allclose(mine.groups, other.groups, atol=1e-9)
    mine, other = (score_interval(labels, logits[0], name, groups) for name in (NAME, "balanced_accuracy"))
    assert (mine.low, mine.high) == pytest.approx((other.low, other.high))


def split(name, count, seed):
    """Bright and dark images."""
    labels = (np.arange(count) % 2).astype(np.int32)
    images = (
        np.random.default_rng(seed).integers(0, 200, (count, 32, 32, 3)) + 30 * labels[:, None, None, None]
    )
    ids = np.array([f"{name}-{number}" for number in range(count)])
    reader = ArrayReader(images.astype(np.uint8))
    return Dataset(name, labels, ids, ids, ("dark", "bright"), "multiclass", reader)


def test_train_search_analyze_and_report_have_it(registered, tmp_path, capsys):
    config = search_config()
    set_fields(config, {
        "model.name": "resnet18", "model.weights": "none", "data.image_size": 32, "data.batch_size": 8,
        "data.eval_batch_size": 16, "data.augment": "none", "total_steps": 2, "select": NAME,
        "search.units": "1-2", "search.stages": "2", "search.method": "exhaustive",
    })  # fmt: skip
    counts = {"train": 16, "val": 16, "test": 11}
    sets = {name: split(name, count, seed) for seed, (name, count) in enumerate(counts.items())}
    record = search(config, tmp_path, sets)
    assert record["select"] == NAME and f"{NAME} 0." in capsys.readouterr().out
    (winner,) = (trial for trial in record["trials"] if trial["unit"] == record["best"])
    result = json.loads((tmp_path / winner["folder"] / "result.json").read_text())
    assert winner["score"] == result["val"][NAME] == max(trial["score"] for trial in record["trials"])
    assert 0 <= result["test"][NAME] <= 1 and NAME in result["intervals"]["test"]
    validations = (tmp_path / winner["folder"] / "metrics.jsonl").read_text()
    assert f'"{NAME}": ' in validations and f"{NAME} {result['test'][NAME]:.4f}" in sentence(record)
    (row,) = table([tmp_path])
    assert float(row[f"{TITLE} %"].split()[0]) == pytest.approx(100 * result["test"][NAME], abs=0.051)
    shown = io.StringIO()
    report.print_table(report.rows([tmp_path / winner["folder"]]), shown, width=240)
    assert TITLE in shown.getvalue() and f"{result['test'][NAME]:.3f}" in shown.getvalue()
    page = report.write([tmp_path / winner["folder"]], tmp_path / "report.html", "One run").read_text()
    assert f'<th scope="col">{TITLE}</th>' in page or f">{TITLE}<" in page
    assert "<dt>Macro specificity</dt><dd>Mean over classes of TN / (TN + FP).</dd>" in page


def test_a_comparison_takes_it_from_its_file(file, tmp_path, capsys):
    """The workers are processes of their own, which have only the config."""
    words = [
        "ttl_jax", "compare", f"--config={ROOT}/configs/compare.py", f"--workdir={tmp_path}",
        "--config.compare.models=('resnet18',)", "--config.model.weights=none",
        "--config.compare.strategies=('truncated(1)+linear_probe', 'truncated(1)')",
        "--config.compare.seeds=(0, 1)", "--config.compare.lrs=(1e-2,)", "--config.data.image_size=16",
        "--config.total_steps=2", "--config.data.phantom_patients=24",
        "--config.data.phantom_images_per_patient=1", f"--config.select={file}:{NAME}",
    ]  # fmt: skip
    try:
        assert main(words) == 0
    finally:
        registry._ENTRIES["metric"].pop(NAME, None)
    found = json.loads((tmp_path / "compare.json").read_text())
    assert found["statistics"]["metric"] == found["protocol"]["select"] == NAME
    one, its = ([cell["test"][NAME] for cell in setting["cells"]] for setting in found["settings"][::-1])
    (difference,) = found["statistics"]["differences"]
    assert difference["estimate"] == pytest.approx(np.mean(one) - np.mean(its))
    assert found["settings"][0]["test"][NAME]["over"] == "patients"
    header, first = (line.split("|") for line in (tmp_path / "compare.md").read_text().splitlines()[::2][:2])
    assert header[4].strip() == f"{TITLE} [95 %]"
    assert first[4].strip().startswith(f"{found['settings'][0]['test'][NAME]['mean']:.3f} [")
    assert (
        (tmp_path / "compare.csv").read_text().startswith(f"dataset,model,strategy,seeds,{NAME},{NAME}_low")
    )
    page = (tmp_path / "report.html").read_text()
    assert page.count(TITLE) > 2 and f"{TITLE} points" in capsys.readouterr().out
