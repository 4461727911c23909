"""`analyze`: what it prints, and that bad input is one sentence and status 2."""

import json

import numpy as np
import pytest

from ttl_jax.cli import main


def run(capsys, *words):
    status = main(["ttl_jax", "analyze", *words])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "takes one of its kinds first"),
        (["svca", "runs/x"], "did you mean 'svcca'?"),
        (["cost"], "arguments are required: --model"),
        (["cost", "--model=resnet81"], "there is no model 'resnet81'"),
        (["cost", "--model=resnet18", "--cut=10"], "has units 1 to 9"),
        (["cost", "--model=resnet18", "--cut=2", "--cuts"], "not allowed with"),
        (["cost", "--model=resnet18", "--image_size=big"], "invalid int value: 'big'"),
        (["cost", "--model=resnet18", "--image_size=0"], "all above 0"),
        (["table"], "required: folders"),
        (["table", "nowhere"], "neither the folder of a run nor of a search"),
        (["cka", "nowhere"], "is not the folder of a finished run"),
        (["cka", "nowhere", "--examples=1"], "must be 2 or more"),
    ],
)
def test_bad_input(capsys, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *words)
    assert status == 2 and sentence in err and len(err.strip().splitlines()) == 1


def test_cost_prints_a_line_a_cut(capsys):
    status, out, _ = run(capsys, "cost", "--model=resnet18", "--cuts", "--image_size=32", "--json")
    rows = json.loads(out)
    assert status == 0 and [row["network"] for row in rows][:2] == ["resnet18, unit 1", "resnet18, unit 2"]
    assert len(rows) == 9 and rows[-1]["params (M)"] == "11.178"


def finished(folder, strategy, seed, auroc, auprc, test=True):
    """The files of a finished run that the table reads."""
    folder.mkdir(parents=True)
    score = {"auroc": auroc, "auprc": auprc, "per_class": {"a": {}, "b": {}}}
    result = {"model": "resnet18", "strategy": strategy, "dataset": "skin", "seed": seed, "image_size": 32,
              "val": score, **({"test": score} if test else {})}  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.json").write_text(json.dumps({"config": {"model": {"head": ""}}}))


def test_the_table_joins_seeds_and_takes_the_winner_of_a_search(capsys, tmp_path):
    full = [(0.80, 0.60), (0.84, 0.66), (0.82, 0.63)]
    for seed, scores in enumerate(full):
        finished(tmp_path / f"full{seed}", "full", seed, *scores)
    finished(tmp_path / "cut/trials/unit03_seed0", "truncated(3)", 0, 0.9, 0.7)
    finished(tmp_path / "cut/trials/unit05_seed0", "truncated(5)", 0, 0.7, 0.6, test=False)
    trials = [
        {"unit": unit, "budget": 1.0, "seed": 0, "folder": f"trials/unit{unit:02d}_seed0"} for unit in (3, 5)
    ]
    (tmp_path / "cut/search.json").write_text(json.dumps({"best": 3, "trials": trials}))
    folders = [str(tmp_path / name) for name in ("full0", "full1", "full2", "cut")]
    status, out, _ = run(capsys, "table", *folders, "--json")
    whole, cut = json.loads(out)
    assert status == 0
    assert whole["AUROC %"] == f"82.0 ± {100 * np.std([s[0] for s in full], ddof=1):.1f}"
    assert whole["AUPRC %"] == "63.0 ± 3.0" and whole["seeds"] == "3" and whole["params (M)"] == "11.178"
    assert cut["method"] == "truncated(3) · resnet18" and cut["AUROC %"] == "90.0"
    assert float(cut["params (M)"]) == 0.158 and float(cut["MACs (G)"]) < float(whole["MACs (G)"])

    status, _, err = run(capsys, "table", str(tmp_path / "cut/trials/unit05_seed0"))
    assert status == 2 and "a trial that its search did not choose" in err
