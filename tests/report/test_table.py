from __future__ import annotations

import io
import json

from ttl_jax import report


def printed(rows) -> list[str]:
    file = io.StringIO()
    report.print_table(rows, file=file)
    return [" ".join(line.split()) for line in file.getvalue().splitlines() if line.strip()]


def test_a_line_a_setting(run):
    directory = run("a", strategy="lp_ft")
    test = json.loads((directory / "result.json").read_text())["test"]
    lines = printed(report.rows([directory], intervals=False))
    assert lines[0].startswith("strategy seeds AUROC AUPRC (prevalence) accuracy")
    assert lines[3].startswith("data set phantom/xray; model resnet50; test split")
    assert lines[2] == (
        f"lp_ft 0 {test['auroc']:.3f} {test['auprc']:.3f} ({test['prevalence']:.3f}) "
        f"{test['accuracy']:.3f} {test['balanced_accuracy']:.3f} {test['ece']:.3f} "
        "4.1 k 13 min 32 s"
    )


def test_rich_markup_in_a_name_is_only_a_name(run):
    lines = printed(report.rows([run("a", strategy="[red]x[/red]")], intervals=False))
    assert "[red]x[/red]" in lines[2]


def test_what_is_missing_is_said(run):
    rows = report.rows([run("a"), run("b", strategy="lp_ft", finished=False)], intervals=False)
    lines = printed(rows)
    assert lines[3] == "lp_ft 0 – – – – – – –"
    assert lines[-1] == "lp_ft: no result yet, at step 80"


def test_several_data_sets_get_a_column(run):
    lines = printed(report.rows([run("a"), run("b", dataset="ham")], intervals=False))
    assert lines[0].startswith("strategy data set seeds")
    assert lines[3].startswith("full ham 0")
